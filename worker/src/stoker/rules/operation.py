"""Operations: long acts on many tasks (redrive by filter, purge), with how far they are, for others than who started them."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

FORMAT = 1
MOST_KEPT = 100
"""Operations per namespace. The hundred-and-first takes the place of the first, also where that still runs."""
LONGEST = 200
"""Characters of a name or a filter."""

_Text = Annotated[str, Meta(max_length=LONGEST)]
_Count = Annotated[int, Meta(ge=0, le=1 << 53)]


class OperationState(StrEnum):
    """How far an operation is."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"  # by its caller, or by an error


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operation on a queue. `done`: tasks so far, `total`: how many there were at its start, None where that is unknown.

    `began` and `updated` are epoch ms of the clock of the process that runs it, which updates about once a second: one that is
    running but was not updated for longer has lost its process.
    """

    kind: _Text
    queue: _Text
    by: _Text
    began: _Count
    updated: _Count
    filter: _Text = ""
    total: _Count | None = None
    done: _Count = 0
    state: OperationState = OperationState.RUNNING
    number: int = 0


class _Stored(msgspec.Struct):
    v: int
    operation: Operation


_stored = msgspec.json.Decoder(_Stored)


def encode_operation(operation: Operation) -> bytes:
    """As it is stored."""
    return msgspec.json.encode({"v": FORMAT, "operation": operation})


def decode_operation(stored: object) -> Operation | None:
    """A stored operation, its number and a blank before it; None for what no Stoker of this version wrote."""
    if not isinstance(stored, bytes):
        return None
    number, _, text = stored.partition(b" ")
    try:
        found = _stored.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if found.v != FORMAT or not number.isdigit() or len(number) > 15:
        return None
    return msgspec.structs.replace(found.operation, number=int(number))
