"""A client for one Redis server, whose address may change when sentinels name a new master.

All callers share one connection (see `wire`); commands that block get their own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar

from stoker.errors import RedisUnavailable
from stoker.redis.client import Routed
from stoker.redis.connector import Connector
from stoker.redis.failures import ALL_IN_USE
from stoker.redis.url import Host
from stoker.redis.wire import Wire


class SingleServer:
    """A RedisClient. `find` returns the server's address; it is called for every new connection."""

    follows_slots: ClassVar[bool] = False

    def __init__(self, connector: Connector, find: Callable[[], Awaitable[Host]]) -> None:
        self.old = False
        self._connector = connector
        self._find = find
        self._wire: Wire | None = None
        self._opening: asyncio.Task[Wire] | None = None
        self._spare: list[Wire] = []
        self._blocking_slots = asyncio.Semaphore(connector.max_blocking)

    def round_trip(self, commands: Sequence[Routed]) -> Awaitable[list[Any]]:
        """See RedisClient."""
        # Returns the future itself when connected: a coroutine around it would cost more than the call.
        return self._go(self._wire, commands) if self._wire and self._wire.usable else self._connect_and_go(commands)

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """See RedisClient."""
        wire = self._wire if self._wire and self._wire.usable else await self._shared()
        sent: list[asyncio.Future[list[Any]]] = []
        for each in commands:
            sent.append(self._go(wire, [each]))
            sent[-1].add_done_callback(_retrieve)
            await asyncio.sleep(0)  # let the event loop write
        return [reply for replies in sent for reply in await replies]

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        """See RedisClient."""
        await self._wait_for_slot()
        try:
            self._spare = [wire for wire in self._spare if wire.usable]
            wire = self._spare.pop() if self._spare else await self._open()
            try:
                replies = await wire.round_trip([each.command for each in commands], blocks + self._connector.answer_timeout)
            except BaseException:
                wire.abort()
                raise
            self._spare.append(wire)
            return replies
        finally:
            self._blocking_slots.release()

    async def everywhere(self, *command: Any) -> list[Any]:
        """See RedisClient."""
        return await self.round_trip([Routed("", command)])

    async def aclose(self) -> None:
        """See RedisClient."""
        if self._opening:
            self._opening.cancel()
        for wire in (self._wire, *self._spare):
            if wire:
                wire.abort()
        self._wire, self._spare = None, []

    def abandon(self) -> None:
        """See RedisClient."""
        for wire in (self._wire, *self._spare):
            if wire:
                wire.abandon()
        self._wire, self._spare = None, []

    def _go(self, wire: Wire, commands: Sequence[Routed]) -> "asyncio.Future[list[Any]]":
        return wire.round_trip([each.command for each in commands], self._connector.answer_timeout)

    async def _connect_and_go(self, commands: Sequence[Routed]) -> list[Any]:
        return await self._go(await self._shared(), commands)

    async def _wait_for_slot(self) -> None:
        try:
            async with asyncio.timeout(self._connector.answer_timeout):
                await self._blocking_slots.acquire()
        except TimeoutError as error:
            raise RedisUnavailable(ALL_IN_USE) from error

    async def _shared(self) -> Wire:
        """The shared connection. Concurrent callers wait for one attempt to open it."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    def _opened(self, opening: "asyncio.Task[Wire]") -> None:
        self._opening = None
        if not opening.cancelled() and not opening.exception():
            self._wire = opening.result()

    async def _open(self) -> Wire:
        return await self._connector.open(await self._find())


def _retrieve(replies: "asyncio.Future[list[Any]]") -> None:
    # After the first failure the others are never awaited: mark their exceptions as retrieved.
    if not replies.cancelled():
        replies.exception()
