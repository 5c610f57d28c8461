"""Protocol between a worker and its child processes: length-prefixed MessagePack over a socket. Nothing is unpickled.

The worker sends Begin, the child answers Ready or Broken. For every task the worker sends RunTask; the child sends any number of
ForwardedRecord, ReportedLine and ReportedProgress, then RunEnded.
"""

import logging
import struct
from typing import Any

import msgspec

from stoker.queue.records import Delivery
from stoker.rules.settle import Outcome
from stoker.task.context import ProgressSink

LENGTH = struct.Struct("!I")
MAX_INT = 1 << 63


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Import the application at `app`, looked up on `path`, and log from `level` on; `stoker` loggers from `own_level` on."""

    app: str
    path: list[str]
    level: int
    own_level: int


class RunTask(msgspec.Struct, frozen=True, tag=True):
    """RunTask this delivery within `limit` seconds; after `soft` seconds SoftTimeout is raised in it.

    `trace` is the W3C context of the run's span in the worker.
    """

    delivery: Delivery
    trace: dict[str, str]
    limit: float | None = None
    soft: float | None = None
    max_retries: int = 0


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The application is imported."""


class Broken(msgspec.Struct, frozen=True, tag=True):
    """The application could not be imported."""

    why: str


class ForwardedRecord(msgspec.Struct, frozen=True, tag=True):
    """A record for the worker's log."""

    record: dict[str, Any]


class ReportedLine(msgspec.Struct, frozen=True, tag=True):
    """A line for the log of the task that was delivered with this fence."""

    fence: str
    level: int
    text: str

    def apply(self, sink: ProgressSink) -> None:
        """Pass it on to that delivery's sink."""
        sink.line(self.level, self.text)


class ReportedProgress(msgspec.Struct, frozen=True, tag=True):
    """The progress of the delivery with this fence."""

    fence: str
    done: float
    total: float | None
    note: str

    def apply(self, sink: ProgressSink) -> None:
        """Pass it on to that delivery's sink."""
        sink.progress(self.done, self.total, self.note)


class RunEnded(msgspec.Struct, frozen=True, tag=True):
    """The run is over. `memory` is the child's resident memory in bytes."""

    outcome: Outcome
    memory: int


ToChild = Begin | RunTask
FromChild = Ready | Broken | ForwardedRecord | ReportedLine | ReportedProgress | RunEnded
_encoder = msgspec.msgpack.Encoder(enc_hook=str)
to_child = msgspec.msgpack.Decoder(ToChild)
from_child = msgspec.msgpack.Decoder(FromChild)


def frame(body: ToChild | FromChild) -> bytes:
    """The bytes of one message."""
    data = _encoder.encode(body)
    return LENGTH.pack(len(data)) + data


class LogForwarder(logging.Handler):
    """Sends a child's log records to its worker, which writes the log."""

    def __init__(self, send: Any) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, with its arguments formatted in: only text and plain values can be encoded."""
        fields = {**record.__dict__, "msg": record.getMessage(), "args": None, "exc_info": None}
        if record.exc_info and record.exc_info[0]:
            fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
        try:
            self._send_or_simplify(fields)
        except Exception:
            self.handleError(record)

    def _send_or_simplify(self, fields: dict[str, Any]) -> None:
        try:
            self._send(ForwardedRecord(fields))
        except (ValueError, TypeError, OverflowError, RecursionError):  # text that is no Unicode, odd keys: keep the line
            self._send(ForwardedRecord({str(key): _plain(value) for key, value in fields.items()}))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < MAX_INT):
        return value
    return str(value).encode(errors="backslashreplace").decode()
