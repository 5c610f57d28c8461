"""Connections that end: uvicorn has a timeout between requests alone, so a silent or slow client would keep its socket.

Deadlines are absolute: more bytes do not extend one. The h11 protocol is used even where httptools is installed, since the
deadlines follow h11's states.
"""

import asyncio
from collections.abc import MutableMapping
from enum import Enum, auto
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

READ_AT_ONCE = 16 * 1024
"""Bytes handed to the HTTP parser in one step of the event loop. Chunks of one byte take it 1 ms for each KiB."""


class Wait(Enum):
    """What a connection waits for."""

    REQUEST = auto()
    HEADERS = auto()
    """The complete headers, from their first byte."""
    REST = auto()
    """The rest of a body that was answered before its end. Closed at once, the client would lose the answer."""
    READER = auto()
    """The client, which does not read its answer."""


WAITS: MutableMapping[Wait, float] = {Wait.REQUEST: 60.0, Wait.HEADERS: 10.0, Wait.REST: 5.0, Wait.READER: 60.0}
"""Seconds after which the connection is closed."""


class BoundedConnection(H11Protocol):
    """One connection. Bodies under way have their own limit of time: `json_body` of limits.py."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._wait: Wait | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread = b""
        self._stalled = self._lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self.flow = self._gate = Gate(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers: uvicorn keeps its own, and so the connection's memory, after a reset."""
        self._lost, self._unread = True, b""
        self._expect(None)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Parse in steps of READ_AT_ONCE, with other connections' turns between them."""
        self._unread += data
        if not self._gate.held:
            self._parse()

    def on_response_complete(self) -> None:
        """Start the deadline of the next request, or of the rest of this one."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Called when a client does not read its answer."""
        super().pause_writing()
        self._stalled = True
        self._watch()

    def resume_writing(self) -> None:
        """Called when it reads again."""
        super().resume_writing()
        self._stalled = False
        self._watch()

    def _parse(self) -> None:
        if self.transport.is_closing():
            return
        step, self._unread = self._unread[:READ_AT_ONCE], self._unread[READ_AT_ONCE:]
        super().data_received(step)
        self._watch()
        if self._unread:
            self._gate.hold()
            self.loop.call_soon(self._parse)
        else:
            self._gate.release()

    def _watch(self) -> None:
        if self._lost:
            return
        if self._stalled or self.transport.is_closing():  # which waits until everything is sent
            self._expect(Wait.READER)
        elif self.conn.their_state is h11.IDLE:
            self._expect(Wait.HEADERS if self.conn.trailing_data[0] else Wait.REQUEST)
        elif self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
            self._expect(Wait.REST)
        else:
            self._expect(None)

    def _expect(self, wait: Wait | None) -> None:
        if wait is self._wait:
            return
        if self._timer:
            self._timer.cancel()
        self._wait, self._timer = wait, self.loop.call_later(WAITS[wait], self._expire) if wait else None

    def _expire(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


class Gate(FlowControl):
    """Flow control whose reading can also be held while received bytes wait to be parsed."""

    held = False

    def resume_reading(self) -> None:
        """Called by uvicorn when it takes more of a body."""
        if self.read_paused:
            self.read_paused = False
            if not self.held:
                self._transport.resume_reading()

    def hold(self) -> None:
        """Read nothing until `release`."""
        if not self.held:
            self.held = True
            self._transport.pause_reading()

    def release(self) -> None:
        """Read again, unless uvicorn has paused it."""
        if self.held:
            self.held = False
            if not self.read_paused:
                self._transport.resume_reading()
