"""A Redis client for writes: each command asks the guard, at the moment at which it is sent."""

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

from stoker.redis.client import RedisClient, Routed
from stoker_operator.state.write_guard import WriteGuard


def fenced(redis: RedisClient, guard: WriteGuard) -> RedisClient:
    """The same client, whose calls raise NotLeader once this operator may not write."""
    return _FencedCluster(redis, guard) if redis.follows_slots else _Fenced(redis, guard)


class _Fenced:
    follows_slots: ClassVar[bool] = False

    def __init__(self, redis: RedisClient, guard: WriteGuard) -> None:
        self._redis = redis
        self._guard = guard

    @property
    def old(self) -> bool:
        return self._redis.old

    @old.setter
    def old(self, value: bool) -> None:
        self._redis.old = value

    def round_trip(self, commands: Sequence[Routed]) -> Awaitable[list[Any]]:
        """See RedisClient."""
        self._guard.left()
        return self._redis.round_trip(commands)

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """See RedisClient."""
        return await self._redis.stream(self._each(commands))

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        """See RedisClient."""
        self._guard.left()
        return await self._redis.alone(commands, blocks=blocks)

    async def everywhere(self, *command: Any) -> list[Any]:
        """See RedisClient."""
        self._guard.left()
        return await self._redis.everywhere(*command)

    async def aclose(self) -> None:
        """See RedisClient."""
        await self._redis.aclose()

    def abandon(self) -> None:
        """See RedisClient."""
        self._redis.abandon()

    def _each(self, commands: Iterable[Routed]) -> Iterator[Routed]:
        for command in commands:
            self._guard.left()
            yield command


class _FencedCluster(_Fenced):
    follows_slots: ClassVar[bool] = True
