"""What a client of Redis can do, whichever kind of Redis it is for: `Server` and `Cluster` do.

Scripts go by `scripts`; single commands by `ask`, `scan` and `everywhere` here.
"""

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from stoker.redis.failures import errors_mapped, mapped
from stoker.redis.wire import Command


class Routed(NamedTuple):
    """A command, and the key whose slot says which node of a cluster is to run it."""

    key: str
    command: Command


class RedisClient(Protocol):
    """Belongs to one event loop. Nothing is sent until the first call.

    Errors of single commands are returned in place of their replies, as ErrorReply; OSError is raised where Redis does not answer.
    """

    follows_slots: ClassVar[bool]
    """Whether it is for a Redis Cluster."""
    old: bool
    """Whether its server is Redis 6.2, as scripts have found out: it cannot read their `#!lua` lines."""

    def round_trip(self, commands: Sequence[Routed]) -> Awaitable[list[Any]]:
        """Run commands, in order within a slot, in one round trip to each server, beside those of others.

        To be awaited at once. What it raises may come from the call itself.
        """
        ...

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """The same for long commands: each leaves before the next is made, so that Redis works while we do."""
        ...

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        """Run commands of one slot, that do no harm when run twice, on a connection that nobody else uses meanwhile.

        For what blocks, for so many seconds, or is about its own connection. Whoever is cancelled here is cancelled in
        Redis, too. Raises RedisUnavailable where all connections are in use for too long.
        """
        ...

    async def everywhere(self, *command: Any) -> list[Any]:
        """Run a command without a key on every server that holds tasks."""
        ...

    async def aclose(self) -> None:
        """Give all connections back."""
        ...


async def ask(redis: RedisClient, *command: Any) -> Any:
    """The reply to a command whose second word is its key. Raises RedisUnavailable or RedisRefused."""
    with errors_mapped():
        [reply] = await redis.round_trip([Routed(command[1], command)])
    if isinstance(reply, Exception):
        raise mapped(reply) from reply
    return reply


async def ask_alone(redis: RedisClient, key: str, *command: Any, blocks: float) -> Any:
    """The same for a command that blocks, for so many seconds at most."""
    with errors_mapped():
        [reply] = await redis.alone([Routed(key, command)], blocks=blocks)
    if isinstance(reply, Exception):
        raise mapped(reply) from reply
    return reply


async def ask_everywhere(redis: RedisClient, *command: Any) -> list[Any]:
    """The replies of all servers. Raises RedisUnavailable or RedisRefused."""
    with errors_mapped():
        replies = await redis.everywhere(*command)
    for reply in replies:
        if isinstance(reply, Exception):
            raise mapped(reply) from reply
    return replies


async def scan(redis: RedisClient, command: str, key: str, count: int) -> AsyncIterator[tuple[bytes, bytes]]:
    """All pairs of a hash (HSCAN) or a sorted set (ZSCAN), about `count` at a time; some may come twice."""
    cursor = b"0"
    while True:
        cursor, flat = await ask(redis, command, key, cursor, "COUNT", count)
        for pair in zip(flat[::2], flat[1::2], strict=True):
            yield pair
        if cursor == b"0":
            return
