"""Wire: one pipelined connection to a Redis server, shared by many callers. Commands are sent at once, replies come in order.

Why not redis-py's connection: it serves one caller at a time, spends some 50 us of CPU on a round trip, may lose a cancellation
before Python 3.12, and importing it takes a quarter of a worker's memory budget. Here a cancelled caller does not disturb the
others: its replies are read and dropped.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from hiredis import HiredisError, Reader, pack_command

from stoker.errors import Invalid
from stoker.redis.replies import ErrorReply
from stoker.redis.reply_limit import NotRedis, ReplyLimit, ReplyMeter, ReplyTooLarge

Command = tuple[Any, ...]

NO_MASTER = frozenset({"READONLY", "NOREPLICAS", "MASTERDOWN"})
"""Error codes of a server that is no longer the master. One without replicas may already have a successor."""


class Endpoint(NamedTuple):
    """The address of a server, and the commands that a new connection starts with."""

    host: str
    port: int
    path: str | None = None
    tls: ssl.SSLContext | None = None
    handshake: Sequence[Command] = ()


class _RoundTrip:
    """The replies that a caller waits for: `count` of them, `until` a moment of the loop's clock."""

    __slots__ = ("count", "future", "replies", "until")

    def __init__(self, count: int, until: float, future: "asyncio.Future[list[Any]]") -> None:
        self.count = count
        self.until = until
        self.future = future
        self.replies: list[Any] = []


def _packed(command: Command) -> bytes:
    try:
        return cast(bytes, pack_command(command))
    except (TypeError, ValueError) as error:  # ValueError: half of a surrogate pair in a text
        raise Invalid(f"{command[0]!s:.20}: an argument cannot be sent to Redis: {error}") from error


class Wire(asyncio.Protocol):
    """Belongs to one event loop. An error of a single command is returned as its reply."""

    def __init__(self, limit: ReplyLimit) -> None:
        self.usable = True
        """False once it is closed, or its server is not the master: open another one."""
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=self._error)
        self._meter = ReplyMeter(limit)
        self._trips: deque[_RoundTrip] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._closed_by: Exception | None = None

    @classmethod
    async def open(cls, endpoint: Endpoint, patience: float, limit: ReplyLimit) -> "Wire":
        """A connection, ready within `patience` seconds. Raises OSError, or the ErrorReply of a server that refuses it."""
        loop = asyncio.get_running_loop()
        protocol = partial(cls, limit)
        try:
            async with asyncio.timeout(patience):
                if endpoint.path:
                    _, wire = await loop.create_unix_connection(protocol, endpoint.path)
                else:
                    wire = await _connected(protocol, endpoint)
        except TimeoutError as error:
            raise TimeoutError(f"Timeout: no connection within {patience:g} s") from error
        try:
            for reply in await wire.round_trip(endpoint.handshake, patience):
                if isinstance(reply, Exception):
                    raise reply
        except BaseException:
            wire.abort()
            raise
        return wire

    def round_trip(self, commands: Sequence[Command], patience: float) -> "asyncio.Future[list[Any]]":
        """Send commands now; the future's result is their replies in order.

        Raises ConnectionError when closed, and Invalid for a value that Redis cannot be sent: nothing was sent.

        If the future raises ConnectionError, or TimeoutError after `patience` seconds, the commands may have run.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not commands:
            future.set_result([])
            return future
        if self._transport.is_closing():
            raise self._closed_by or ConnectionError("the connection is closed")
        # Before its place among the trips is taken: a trip that was never sent would take the next caller's replies.
        packed = b"".join([_packed(each) for each in commands])
        trip = _RoundTrip(len(commands), self._loop.time() + patience, future)
        self._trips.append(trip)
        try:
            self._transport.write(packed)
        except BaseException:  # how much was sent is unknown, so no reply could be attributed
            self.abort()
            raise
        if self._watch is None:
            # One timer for all: one for each would cost more than the rest of the round trip's Python.
            self._watch = self._loop.call_at(trip.until, self._check)
        return future

    @property
    def socket(self) -> "socket.socket":
        """The socket, to set options."""
        return cast(socket.socket, self._transport.get_extra_info("socket"))

    def abort(self, error: Exception | None = None) -> None:
        """Close it now. Waiting callers get the error."""
        self.usable = False
        self._closed_by = error or ConnectionError("the connection was closed")
        self._transport.abort()
        self._fail_all(self._closed_by)

    def abandon(self) -> None:
        """Cut the connection of a loop that is closed already: its transport can no longer be called."""
        self.usable = False
        with contextlib.suppress(OSError, AttributeError):  # uvloop has closed it with the loop
            self.socket.shutdown(socket.SHUT_RDWR)
        del self._transport  # the cycle of both: without it the file is closed at once

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports are not asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._meter.feed(data)
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                trip = self._trips[0]
                trip.replies.append(reply)
                if len(trip.replies) == trip.count:
                    self._trips.popleft()
                    self._meter.done()
                    if not trip.future.done():  # its caller may have been cancelled
                        trip.future.set_result(trip.replies)
        except (ReplyTooLarge, NotRedis) as error:
            self.abort(error)
        except HiredisError as error:
            self.abort(NotRedis(f"the reply is not in the Redis protocol: {error}"))
        except IndexError:  # an unsolicited reply: a server that refuses the connection
            self.abort(reply if isinstance(reply, ErrorReply) else ConnectionError("an unsolicited reply"))
        if not self.usable and not self._trips:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        self._meter.done()
        self._fail_all(ConnectionError(f"Connection lost: {error or 'closed by the server'}"))

    def _error(self, text: str) -> Exception:
        if text.partition(" ")[0] in NO_MASTER:
            self.usable = False
        return ErrorReply(text)

    def _check(self) -> None:
        self._watch = None
        if self._trips:
            until = self._trips[0].until
            if until > self._loop.time():
                self._watch = self._loop.call_at(until, self._check)
            else:
                self.abort(TimeoutError("Timeout: no answer in time"))

    def _fail_all(self, error: Exception) -> None:
        if self._watch:
            self._watch.cancel()
            self._watch = None
        while self._trips:
            trip = self._trips.popleft()
            if not trip.future.done():
                trip.future.set_exception(error)


async def _connected(protocol: Callable[[], Wire], endpoint: Endpoint) -> Wire:
    host, port, _, tls, _ = endpoint
    connect = asyncio.get_running_loop().create_connection
    try:
        _, wire = await connect(protocol, host, port, ssl=tls)
    except RuntimeError:  # the interpreter is ending, and no thread is started any more to look up a name
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
        _, wire = await connect(protocol, str(address), port, ssl=tls, server_hostname=host if tls else None)
    return wire
