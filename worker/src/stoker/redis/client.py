"""RedisClient, the interface of `SingleServer` and `Cluster`, and the functions that send single commands through it.

Scripts go through `queue/scripts.py`.
"""

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from stoker.redis.failures import errors_mapped, mapped
from stoker.redis.wire import Command


class Routed(NamedTuple):
    """A command, and the key whose slot selects the node of a cluster."""

    key: str
    command: Command


class RedisClient(Protocol):
    """Belongs to one event loop. Connects on its first call.

    An error of a single command is returned as its reply, an ErrorReply; OSError is raised when Redis does not answer.
    """

    follows_slots: ClassVar[bool]
    """True for a Redis Cluster."""
    old: bool
    """True once a script has found a server older than Redis 7, which cannot read `#!lua` lines."""

    def round_trip(self, commands: Sequence[Routed]) -> Awaitable[list[Any]]:
        """Run commands, in order within a slot, in one round trip to each server. Other callers share the connection.

        Await it at once. It may raise before it is awaited.
        """
        ...

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """As `round_trip`, for long commands: each is sent before the next is built, so Redis works meanwhile."""
        ...

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        """Run idempotent commands of one slot on a connection that is not shared.

        For commands that block, for `blocks` seconds, or that concern their connection (WAIT). Cancelling the call closes the
        connection, which also ends the command. Raises RedisUnavailable when no connection becomes free in time.
        """
        ...

    async def everywhere(self, *command: Any) -> list[Any]:
        """Run a command without a key on every master."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...

    def abandon(self) -> None:
        """Cut all connections, when the event loop is closed already."""
        ...


async def ask(redis: RedisClient, *command: Any) -> Any:
    """Run a command whose second word is its key. Raises RedisUnavailable or RedisRefused."""
    with errors_mapped():
        [reply] = await redis.round_trip([Routed(command[1], command)])
    if isinstance(reply, Exception):
        raise mapped(reply) from reply
    return reply


async def ask_alone(redis: RedisClient, key: str, *command: Any, blocks: float) -> Any:
    """As `ask`, for a command that blocks for at most `blocks` seconds."""
    with errors_mapped():
        [reply] = await redis.alone([Routed(key, command)], blocks=blocks)
    if isinstance(reply, Exception):
        raise mapped(reply) from reply
    return reply


async def ask_everywhere(redis: RedisClient, *command: Any) -> list[Any]:
    """Run a command on every master and return their replies. Raises RedisUnavailable or RedisRefused."""
    with errors_mapped():
        replies = await redis.everywhere(*command)
    for reply in replies:
        if isinstance(reply, Exception):
            raise mapped(reply) from reply
    return replies


async def scan(redis: RedisClient, command: str, key: str, count: int) -> AsyncIterator[tuple[bytes, bytes]]:
    """All pairs of a hash (HSCAN) or a sorted set (ZSCAN), read about `count` at a time; a pair may come twice."""
    cursor = b"0"
    while True:
        cursor, flat = await ask(redis, command, key, cursor, "COUNT", count)
        for pair in zip(flat[::2], flat[1::2], strict=True):
            yield pair
        if cursor == b"0":
            return
