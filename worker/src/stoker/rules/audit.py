"""The audit of a queue: who has done what to how many of its tasks."""

from typing import Annotated

import msgspec
from msgspec import Meta

FORMAT = 1
MOST_KEPT = 10_000
"""Entries per queue, about: a stream is cut in blocks of a hundred."""
KEPT_FOR = 400 * 86_400.0
"""Seconds after the last act."""
LONGEST = 200
"""Characters of a name or a detail."""


class Act(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person has done. `by`: a command line's user and machine, or the gateway. `count`: tasks, or 1 for the queue itself.

    `at`: epoch ms of Redis' clock. `detail`: a filter, or the name of a schedule.
    """

    by: Annotated[str, Meta(max_length=LONGEST)]
    act: Annotated[str, Meta(max_length=LONGEST)]
    count: Annotated[int, Meta(ge=0, le=1 << 53)] = 1
    detail: Annotated[str, Meta(max_length=LONGEST)] = ""
    at: int = 0


class _Stored(msgspec.Struct):
    v: int
    act: Act


_stored = msgspec.json.Decoder(_Stored)


def encode_act(act: Act) -> bytes:
    """As it is stored, its texts cut to LONGEST."""
    return msgspec.json.encode({"v": FORMAT, "act": Act(act.by[:LONGEST], act.act[:LONGEST], act.count, act.detail[:LONGEST])})


def decode_act(stored: bytes, at: int) -> Act | None:
    """A stored entry; None for what no Stoker of this version wrote."""
    try:
        found = _stored.decode(stored)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return msgspec.structs.replace(found.act, at=at) if found.v == FORMAT else None
