"""One connection to a Redis server that many callers share: what they send leaves at once, replies come back in that order.

Why not redis-py's: it serves one caller at a time, spends some 50 us of CPU on a round trip, before Python 3.12 it may lose a
cancellation, and to import it takes a quarter of what a worker may have in memory. Here a caller that gives up takes nothing
from the others: its replies are read and dropped.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from hiredis import HiredisError, Reader, pack_command

from stoker.redis.replies import ErrorReply

Command = tuple[Any, ...]

NO_MASTER = frozenset({"READONLY", "NOREPLICAS", "MASTERDOWN"})
"""What a server answers that is no master any more. One that has lost its replicas may have a successor at work already."""


class Pending(NamedTuple):
    """Where a server listens, and how to get in."""

    host: str
    port: int
    path: str | None = None
    tls: ssl.SSLContext | None = None
    greetings: Sequence[Command] = ()


class _Trip:
    """The replies that a caller waits for."""

    __slots__ = ("count", "replies", "until", "whole")

    def __init__(self, count: int, until: float, whole: "asyncio.Future[list[Any]]") -> None:
        self.count = count
        self.until = until
        self.whole = whole
        self.replies: list[Any] = []


class Wire(asyncio.Protocol):
    """Belongs to one event loop. Errors of single commands are returned in place of their replies."""

    def __init__(self) -> None:
        self.fit = True
        """False once it is lost, or its server is no master: whoever comes next takes another one."""
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=self._error)
        self._trips: deque[_Trip] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._end: Exception | None = None

    @classmethod
    async def to(cls, place: Pending, patience: float) -> "Wire":
        """A connection, let in within `patience` seconds. Raises OSError, or the ErrorReply that lets nobody in."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience):
                if place.path:
                    _, wire = await loop.create_unix_connection(cls, place.path)
                else:
                    _, wire = await loop.create_connection(cls, place.host, place.port, ssl=place.tls)
        except TimeoutError as error:
            raise TimeoutError(f"Timeout: no connection within {patience:g} s") from error
        try:
            for answer in await wire.round_trip(place.greetings, patience):
                if isinstance(answer, Exception):
                    raise answer
        except BaseException:
            wire.cut()
            raise
        return wire

    def round_trip(self, commands: Sequence[Command], patience: float) -> "asyncio.Future[list[Any]]":
        """Send these now; their replies come in order. Not sent where it raises ConnectionError at once.

        Where the future raises ConnectionError, or TimeoutError after `patience` seconds, they may have run or not.
        """
        whole: asyncio.Future[list[Any]] = self._loop.create_future()
        if not commands:
            whole.set_result([])
            return whole
        if self._transport.is_closing():
            raise self._end or ConnectionError("the connection is closed")
        trip = _Trip(len(commands), self._loop.time() + patience, whole)
        self._trips.append(trip)
        self._transport.write(b"".join([pack_command(each) for each in commands]))
        if self._watch is None:
            # One timer for all: a timeout for each costs more than the round trip's own Python.
            self._watch = self._loop.call_at(trip.until, self._check)
        return whole

    @property
    def socket(self) -> "socket.socket":
        """What it goes through; for its options."""
        return cast(socket.socket, self._transport.get_extra_info("socket"))

    def cut(self, error: Exception | None = None) -> None:
        """End it now; whoever waits hears of it."""
        self.fit = False
        self._end = error or ConnectionError("the connection was closed")
        self._transport.abort()
        self._give_up(self._end)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No check of the kind: uvloop's transports are not asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                trip = self._trips[0]
                trip.replies.append(reply)
                if len(trip.replies) == trip.count:
                    self._trips.popleft()
                    if not trip.whole.done():  # its caller may have given up
                        trip.whole.set_result(trip.replies)
        except HiredisError as error:
            self.cut(ConnectionError(f"it answers what Redis would not ({error})"))
        except IndexError:  # nobody has asked: so a server speaks that lets nobody in
            self.cut(reply if isinstance(reply, ErrorReply) else ConnectionError("it answers what nobody has asked"))
        if not self.fit and not self._trips:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.fit = False
        self._give_up(ConnectionError(f"Connection lost: {error or 'closed by the server'}"))

    def _error(self, text: str) -> Exception:
        if text.partition(" ")[0] in NO_MASTER:
            self.fit = False
        return ErrorReply(text)

    def _check(self) -> None:
        self._watch = None
        if self._trips:
            until = self._trips[0].until
            if until > self._loop.time():
                self._watch = self._loop.call_at(until, self._check)
            else:
                self.cut(TimeoutError("Timeout: no answer in time"))

    def _give_up(self, error: Exception) -> None:
        if self._watch:
            self._watch.cancel()
            self._watch = None
        while self._trips:
            trip = self._trips.popleft()
            if not trip.whole.done():
                trip.whole.set_exception(error)
