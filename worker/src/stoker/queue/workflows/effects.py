"""Effects as the scripts read them (`lua/_effects.lua`), and the calls of the scripts that only perform effects."""

from collections.abc import Sequence
from typing import NamedTuple, assert_never

import msgspec

from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.rules.admission import marks
from stoker.rules.effects import BreakJoin, CompleteMember, Effect, EnqueueTask, LeaveTombstone, OpenJoin, PutInOutbox
from stoker.rules.message import MAX_PAYLOAD_BYTES, encode
from stoker.rules.units import to_ms
from stoker.rules.workflow import Member, dump_entry

US = b"\x1f"
PERFORMED_AT_ONCE = 100
REMEMBERED = 600.0
"""Seconds for which a partition remembers the keys of performed effects: far longer than a relay takes."""


class Keyed(NamedTuple):
    """An effect, and the key under which it is performed once; "" where a repetition does no harm."""

    key: str
    effect: Effect


def pack(effect: Effect) -> bytes:
    """An effect as one text: its kind and fields, separated by US. A join keeps packed `task` and `send` in Redis."""
    match effect:
        case EnqueueTask(_, admission, member):
            message = admission.message
            when = (to_ms(admission.delay), to_ms(admission.run_at))
            fields = (message.id, -message.priority, *when, *marks(admission.claim, admission.limit), _member(member))
            return _joined(b"task", *fields, encode(message))
        case PutInOutbox(_, entry):
            return _joined(b"send", dump_entry(entry))
        case OpenJoin(_, placeholder, total, then, member):
            row = (total, MAX_PAYLOAD_BYTES, _member(member), -placeholder.priority, encode(placeholder), pack(then))
            return _joined(b"join", placeholder.id, *row)
        case CompleteMember(member, value):
            return _joined(b"arrive", member.join, member.at, bytes(value))
        case BreakJoin(_, join, failure):
            return _joined(b"break_join", join, msgspec.json.encode(failure))
        case LeaveTombstone(_, message):
            return _joined(b"tombstone", message.id, encode(message))
        case _:
            assert_never(effect)


def relay_call(k: Keys, effects: Sequence[Keyed]) -> ScriptCall:
    """Perform effects that an outbox or a cancellation has for this partition."""
    return ScriptCall("relay", k, _arguments(effects))


def launch_call(k: Keys, effects: Sequence[Keyed]) -> ScriptCall:
    """Perform the effects that begin a workflow."""
    return ScriptCall("launch", k, _arguments(effects))


def _arguments(effects: Sequence[Keyed]) -> list[Argument]:
    arguments: list[Argument] = [to_ms(REMEMBERED)]
    for key, effect in effects:
        arguments += (key, pack(effect))
    return arguments


def _joined(*fields: str | bytes | int) -> bytes:
    return US.join(field if isinstance(field, bytes) else str(field).encode() for field in fields)


def _member(member: Member | None) -> str:
    return f"{member.partition} {member.join} {member.at}" if member else ""
