"""The ends of deliveries, as `settle.lua` takes them: many in one call, and with each what follows from it."""

from collections.abc import Iterator, Sequence
from typing import assert_never

import msgspec
from msgspec import Struct

from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.queue.workflows.effects import pack
from stoker.rules.items import Arrive, Item, Send
from stoker.rules.message import Success
from stoker.rules.settle import Bury, Cancel, Release, Retry, Snooze, Succeed, Transition
from stoker.rules.units import to_ms

SETTLED_AT_ONCE = 200
ITEMS_AT_ONCE = 500

_json = msgspec.json.Encoder().encode


class Settlement(Struct, frozen=True, gc=False):
    """The end of a delivery. `busy` is seconds spent running it, `items` follow if it has succeeded."""

    id: str
    fence: str
    transition: Transition
    busy: float = 0.0
    items: Sequence[Item] = ()


def portions(settlements: Sequence[Settlement]) -> Iterator[Sequence[Settlement]]:
    """As many at a time as one script may take; fewer where much follows from them."""
    if len(settlements) <= SETTLED_AT_ONCE and not any(settlement.items for settlement in settlements):
        if settlements:
            yield settlements
        return
    start, items = 0, 0
    for at, settlement in enumerate(settlements):
        items += len(settlement.items)
        if at > start and (at - start >= SETTLED_AT_ONCE or items > ITEMS_AT_ONCE):
            yield settlements[start:at]
            start, items = at, len(settlement.items)
    yield settlements[start:]


def fills_outbox(settlements: Sequence[Settlement]) -> bool:
    """Whether something comes into the outbox with these, perhaps: whoever arrives last at a join may set off anything."""
    return any(isinstance(item, Send | Arrive) for settlement in settlements for item in settlement.items)


def settle_call(keys: Keys, settlements: Sequence[Settlement], keep: float) -> ScriptCall:
    """End these deliveries. `keep` is seconds for which a result is kept."""
    arguments: list[Argument] = [to_ms(keep), len(settlements)]
    for settlement in settlements:
        arguments += _settle_fields(settlement)
    for number, settlement in enumerate(settlements, 1):
        for item in settlement.items:
            arguments += (number, pack(item))
    return ScriptCall("settle", keys, arguments)


def _settle_fields(settlement: Settlement) -> tuple[Argument, ...]:
    task_id, fence, busy = settlement.id, settlement.fence, settlement.busy
    match settlement.transition:
        case Succeed(value):
            return (task_id, fence, "succeed", 0, _json(Success(msgspec.Raw(value), busy)), to_ms(busy))
        case Retry(delay, failure):
            return (task_id, fence, "retry", to_ms(delay), _json(failure), to_ms(busy))
        case Bury(failure):
            return (task_id, fence, "bury", 0, _json(failure), to_ms(busy))
        case Snooze(delay):
            return (task_id, fence, "snooze", to_ms(delay), "", to_ms(busy))
        case Release():
            return (task_id, fence, "release", 0, "", to_ms(busy))
        case Cancel():
            return (task_id, fence, "cancel", 0, "", to_ms(busy))
        case _:
            assert_never(settlement.transition)
