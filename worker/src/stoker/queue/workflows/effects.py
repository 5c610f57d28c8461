"""Items of workflows as the scripts read them (`lua/_items.lua`), and the scripts that do nothing but perform them."""

from collections.abc import Sequence
from typing import NamedTuple, assert_never

import msgspec

from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.rules.admission import marks
from stoker.rules.items import Arrive, Item, Join, Send, Start
from stoker.rules.message import MAX_PAYLOAD_BYTES, Message, encode
from stoker.rules.plan import Member, write_entry
from stoker.rules.settle import Failure
from stoker.rules.units import to_ms

US = b"\x1f"
PERFORMED_AT_ONCE = 100
MEMORY = 600.0
"""Seconds for which a queue remembers what was relayed to it: far longer than any relay is on its way."""


class Keyed(NamedTuple):
    """A packed item, and the key under which it is performed once; none where once more does no harm."""

    key: str
    item: bytes


def pack(item: Item) -> bytes:
    """An item as one text."""
    match item:
        case Start(_, message, delay, run_at, claim, limit, member):
            when = (to_ms(delay), to_ms(run_at))
            fields = (message.id, -message.priority, *when, *marks(claim, limit), _place(member))
            return _join(b"task", *fields, encode(message))
        case Send(_, entry):
            return _join(b"send", write_entry(entry))
        case Join(_, standin, total, following, member):
            row = (total, MAX_PAYLOAD_BYTES, _place(member), -standin.priority, encode(standin), pack(following))
            return _join(b"join", standin.id, *row)
        case Arrive(member, value):
            return _join(b"arrive", member.join, member.at, bytes(value))
        case _:
            assert_never(item)


def part(join: str, failure: Failure) -> bytes:
    """The item that says that a join can never be."""
    return _join(b"part", join, msgspec.json.encode(failure))


def entomb(message: Message) -> bytes:
    """The item that makes a task cancelled before it comes."""
    return _join(b"entomb", message.id, encode(message))


def relay_call(k: Keys, items: Sequence[Keyed]) -> ScriptCall:
    """Perform what an outbox had for this queue."""
    return ScriptCall("relay", k, _arguments(items))


def launch_call(k: Keys, items: Sequence[Keyed]) -> ScriptCall:
    """Perform what begins a workflow."""
    return ScriptCall("launch", k, _arguments(items))


def _arguments(items: Sequence[Keyed]) -> list[Argument]:
    return [to_ms(MEMORY), *(field for keyed in items for field in keyed)]


def _join(*fields: str | bytes | int) -> bytes:
    return US.join(field if isinstance(field, bytes) else str(field).encode() for field in fields)


def _place(member: Member | None) -> str:
    return f"{member.place} {member.join} {member.at}" if member else ""
