"""The client of one Redis server, wherever it is now: a master that sentinels name may move.

Scripts, the hot path, go over a connection of our own that all callers share (see `wire`); single commands are redis-py's.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from stoker.queue.cluster import Routed
from stoker.queue.wire import Command, Place, Wire


class Server(Redis):
    """Belongs to one event loop. Nothing is sent until the first call."""

    def __init__(self, pool: ConnectionPool) -> None:
        """Raises TypeError for an option that redis-py does not know."""
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self._pattern = pool.connection_class(**pool.connection_kwargs)
        self._wire: Wire | None = None
        self._opening: asyncio.Task[Wire] | None = None
        self._spare: list[Wire] = []

    async def round_trip(self, commands: Sequence[Routed]) -> list[Any]:
        """Run commands, in order, in one round trip, beside those of others. Errors are returned in place of replies."""
        wire = self._wire if self._wire and self._wire.fit else await self._shared()
        return await wire.round_trip([each.command for each in commands], self._patience)

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """The same for long commands: each leaves before the next is made, so that Redis works while we do."""
        wire = self._wire if self._wire and self._wire.fit else await self._shared()
        sent: list[asyncio.Future[list[Any]]] = []
        for each in commands:
            sent.append(wire.send([each.command], self._patience))
            sent[-1].add_done_callback(_heard)
            await asyncio.sleep(0)  # event loops write when they come round
        return [reply for replies in sent for reply in await replies]

    async def alone(self, commands: Sequence[Command], *, blocks: float = 0.0) -> list[Any]:
        """The same on a connection that nobody else uses meanwhile, for commands that block for so many seconds.

        Whoever is cancelled here is cancelled in Redis, too: the connection is closed.
        """
        self._spare = [wire for wire in self._spare if wire.fit]
        wire = self._spare.pop() if self._spare else await self._open()
        try:
            replies = await wire.round_trip(commands, blocks + self._patience)
        except BaseException:
            wire.cut()
            raise
        self._spare.append(wire)
        return replies

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Give all connections back."""
        if self._opening:
            self._opening.cancel()
        for wire in (self._wire, *self._spare):
            if wire:
                wire.cut()
        self._wire, self._spare = None, []
        await super().aclose(close_connection_pool)

    @property
    def _patience(self) -> float:
        patience: float = self.connection_pool.connection_kwargs["socket_timeout"]
        return patience

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
        pool = self.connection_pool
        options = pool.connection_kwargs
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        if isinstance(pool, SentinelConnectionPool):
            host, port = await pool.get_master_address()  # type: ignore[no-untyped-call]
        tls = self._pattern.ssl_context.get() if isinstance(self._pattern, SSLConnection) else None
        place = Place(host, port, options.get("path"), tls, _greetings(options))
        return await Wire.to(place, options["socket_connect_timeout"])


def _heard(replies: "asyncio.Future[list[Any]]") -> None:
    # Where the first of many fails nobody asks the others any more.
    if not replies.cancelled():
        replies.exception()


def _greetings(options: dict[str, Any]) -> list[Command]:
    """What a server wants to hear first. PING is for its answer: one that lets nobody in says so to a short command only."""
    user, password, name, database = (options.get(each) for each in ("username", "password", "client_name", "db"))
    greetings: list[Command] = []
    if user or password:
        greetings.append(("AUTH", user, password or "") if user else ("AUTH", password))
    if name:
        greetings.append(("CLIENT", "SETNAME", name))
    if database:
        greetings.append(("SELECT", database))
    return [*greetings, ("PING",)]
