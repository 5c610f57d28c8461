"""What a worker and its children say to each other over their socket: MessagePack behind its length. Nothing is ever unpickled.

One conversation: Begin, then Ready or Broken; for every task Run, any number of Said, Line and Step, and Ended.
"""

import logging
import struct
from typing import Any

import msgspec

from stoker.queue.records import Delivery
from stoker.rules.settle import Outcome
from stoker.task.context import Account

LENGTH = struct.Struct("!I")
LARGEST = 1 << 63


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Import the application at `app`, looked up on `path`, and log from `level` on."""

    app: str
    path: list[str]
    level: int


class Run(msgspec.Struct, frozen=True, tag=True):
    """Run this delivery within `limit` seconds; after `soft` seconds SoftTimeout is raised in it.

    `trace` is the W3C context of the run's span in the worker.
    """

    delivery: Delivery
    trace: dict[str, str]
    limit: float | None = None
    soft: float | None = None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The application is imported."""


class Broken(msgspec.Struct, frozen=True, tag=True):
    """The application could not be imported."""

    why: str


class Said(msgspec.Struct, frozen=True, tag=True):
    """A log record, as the worker is to write it."""

    record: dict[str, Any]


class Line(msgspec.Struct, frozen=True, tag=True):
    """A line for the story of the delivery that has this fence."""

    fence: str
    level: int
    text: str

    def tell(self, account: Account) -> None:
        """To the account of that delivery."""
        account.line(self.level, self.text)


class Step(msgspec.Struct, frozen=True, tag=True):
    """How far the delivery with this fence is."""

    fence: str
    done: float
    total: float | None
    note: str

    def tell(self, account: Account) -> None:
        """To the account of that delivery."""
        account.progress(self.done, self.total, self.note)


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The run is over. `memory` is what the child takes, in bytes."""

    outcome: Outcome
    memory: int


ToChild = Begin | Run
FromChild = Ready | Broken | Said | Line | Step | Ended
_encoder = msgspec.msgpack.Encoder(enc_hook=str)
to_child = msgspec.msgpack.Decoder(ToChild)
from_child = msgspec.msgpack.Decoder(FromChild)


def frame(body: ToChild | FromChild) -> bytes:
    """Its bytes on the socket."""
    data = _encoder.encode(body)
    return LENGTH.pack(len(data)) + data


class Teller(logging.Handler):
    """Sends a child's log records to its worker, which alone writes the log."""

    def __init__(self, send: Any) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one. Its arguments stay here: only text and plain values can travel."""
        fields = {**record.__dict__, "msg": record.getMessage(), "args": None, "exc_info": None, "exc_text": None}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        try:
            self._send_in_any_case(fields)
        except Exception:
            self.handleError(record)

    def _send_in_any_case(self, fields: dict[str, Any]) -> None:
        try:
            self._send(Said(fields))
        except (
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
        ):  # text that is no Unicode, odd keys: no line is lost for them
            self._send(Said({str(key): _plain(value) for key, value in fields.items()}))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST):
        return value
    return str(value).encode(errors="backslashreplace").decode()
