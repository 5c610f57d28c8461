"""The client of one Redis server, wherever it is now: a master that sentinels name may move.

All callers share one connection (see `wire`); what blocks has one to itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar

from stoker.errors import RedisUnavailable
from stoker.redis.client import Routed
from stoker.redis.connector import Connector
from stoker.redis.url import Host
from stoker.redis.wire import Wire


class SingleServer:
    """A RedisClient. `find` says where the server is whenever a connection is opened."""

    follows_slots: ClassVar[bool] = False

    def __init__(self, access: Connector, find: Callable[[], Awaitable[Host]]) -> None:
        self.old = False
        self._access = access
        self._find = find
        self._wire: Wire | None = None
        self._opening: asyncio.Task[Wire] | None = None
        self._spare: list[Wire] = []
        self._turns = asyncio.Semaphore(access.most)

    def round_trip(self, commands: Sequence[Routed]) -> Awaitable[list[Any]]:
        """See RedisClient."""
        # Where the connection is there the future itself is returned: a coroutine around it would cost more than it does.
        return self._go(self._wire, commands) if self._wire and self._wire.fit else self._go_first(commands)

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """See RedisClient."""
        wire = self._wire if self._wire and self._wire.fit else await self._shared()
        sent: list[asyncio.Future[list[Any]]] = []
        for each in commands:
            sent.append(self._go(wire, [each]))
            sent[-1].add_done_callback(_heard)
            await asyncio.sleep(0)  # event loops write when they come round
        return [reply for replies in sent for reply in await replies]

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        """See RedisClient."""
        await self._wait_for_turn()
        try:
            self._spare = [wire for wire in self._spare if wire.fit]
            wire = self._spare.pop() if self._spare else await self._open()
            try:
                replies = await wire.round_trip([each.command for each in commands], blocks + self._access.patience)
            except BaseException:
                wire.cut()
                raise
            self._spare.append(wire)
            return replies
        finally:
            self._turns.release()

    async def everywhere(self, *command: Any) -> list[Any]:
        """See RedisClient."""
        return await self.round_trip([Routed("", command)])

    async def aclose(self) -> None:
        """See RedisClient."""
        if self._opening:
            self._opening.cancel()
        for wire in (self._wire, *self._spare):
            if wire:
                wire.cut()
        self._wire, self._spare = None, []

    def _go(self, wire: Wire, commands: Sequence[Routed]) -> "asyncio.Future[list[Any]]":
        return wire.round_trip([each.command for each in commands], self._access.patience)

    async def _go_first(self, commands: Sequence[Routed]) -> list[Any]:
        return await self._go(await self._shared(), commands)

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(self._access.patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise RedisUnavailable("this process already uses all the connections to Redis that it may have") from error

    async def _shared(self) -> Wire:
        """The connection that all share; those who come while it is opened wait for the same one."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    def _opened(self, opening: "asyncio.Task[Wire]") -> None:
        self._opening = None
        if not opening.cancelled() and not opening.exception():
            self._wire = opening.result()

    async def _open(self) -> Wire:
        return await self._access.open(await self._find())


def _heard(replies: "asyncio.Future[list[Any]]") -> None:
    # Where the first of many fails nobody asks the others any more.
    if not replies.cancelled():
        replies.exception()
