"""What a worker and its children say to each other over their socket: MessagePack behind its length. Nothing is ever unpickled.

One conversation: Begin, then Ready or Broken; for every task Run, any number of Said, and Ended.
"""

import logging
import struct
from typing import Any

import msgspec

from stoker.queue.broker import Delivery
from stoker.rules.settle import Outcome

LENGTH = struct.Struct("!I")


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Import the application at `app`, looked up on `path`, and log from `level` on."""

    app: str
    path: list[str]
    level: int


class Run(msgspec.Struct, frozen=True, tag=True):
    """Run this delivery within `limit` seconds. `trace` is the W3C context of the run's span in the worker."""

    delivery: Delivery
    trace: dict[str, str]
    limit: float | None = None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The application is imported."""


class Broken(msgspec.Struct, frozen=True, tag=True):
    """The application could not be imported."""

    why: str


class Said(msgspec.Struct, frozen=True, tag=True):
    """A log record, as the worker is to write it."""

    record: dict[str, Any]


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The run is over. `memory` is what the child takes, in bytes."""

    outcome: Outcome
    memory: int


ToChild = Begin | Run
FromChild = Ready | Broken | Said | Ended
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
            self._send(Said(fields))
        except Exception:
            self.handleError(record)
