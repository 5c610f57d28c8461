"""Settlements: the ends of deliveries and their effects, as `settle.lua` takes them, many in one call."""

from collections.abc import Iterator, Sequence
from typing import assert_never

import msgspec
from msgspec import Struct

from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.queue.workflows.effects import pack
from stoker.rules.effects import CompleteMember, Effect, PutInOutbox
from stoker.rules.message import Success
from stoker.rules.settle import Bury, Cancel, Release, Retry, Snooze, Succeed, Transition, Unclaim
from stoker.rules.units import to_ms

SETTLED_AT_ONCE = 200
EFFECTS_AT_ONCE = 500

_SCRIPTS = {
    (False, False): "settle",
    (True, False): "settle+bury",
    (False, True): "settle+unclaim",
    (True, True): "settle+bury+unclaim",
}
"""By whether one is buried, and one set aside as unclaimed."""
_json = msgspec.json.Encoder().encode


class Settlement(Struct, frozen=True, gc=False):
    """The end of a delivery. `busy` is seconds spent running it. The `effects` happen if it counts as a success."""

    id: str
    fence: str
    transition: Transition
    busy: float = 0.0
    effects: Sequence[Effect] = ()


def portions(settlements: Sequence[Settlement]) -> Iterator[Sequence[Settlement]]:
    """As many at a time as one script may take; fewer where much follows from them."""
    if len(settlements) <= SETTLED_AT_ONCE and not any(settlement.effects for settlement in settlements):
        if settlements:
            yield settlements
        return
    start, effects = 0, 0
    for at, settlement in enumerate(settlements):
        effects += len(settlement.effects)
        if at > start and (at - start >= SETTLED_AT_ONCE or effects > EFFECTS_AT_ONCE):
            yield settlements[start:at]
            start, effects = at, len(settlement.effects)
    yield settlements[start:]


def fills_outbox(settlements: Sequence[Settlement]) -> bool:
    """Whether these may add to the outbox: what follows a join, once its last member succeeds, or what handles a death."""
    for settlement in settlements:
        if type(settlement.transition) is Bury:
            return True
        if settlement.effects and any(isinstance(effect, PutInOutbox | CompleteMember) for effect in settlement.effects):
            return True
    return False


def settle_call(keys: Keys, settlements: Sequence[Settlement], keep: float) -> ScriptCall:
    """End these deliveries. `keep` is seconds for which a result is kept."""
    arguments: list[Argument] = [to_ms(keep), len(settlements)]
    for settlement in settlements:
        arguments += _settle_fields(settlement)
    for number, settlement in enumerate(settlements, 1):
        for effect in settlement.effects:
            arguments += (number, pack(effect))
    kinds = {type(settlement.transition) for settlement in settlements}
    return ScriptCall(_SCRIPTS[Bury in kinds, Unclaim in kinds], keys, arguments)


def _settle_fields(settlement: Settlement) -> tuple[Argument, ...]:
    task_id, fence, busy = settlement.id, settlement.fence, settlement.busy
    match settlement.transition:
        case Succeed(value):
            return (task_id, fence, "succeed", 0, _json(Success(msgspec.Raw(value), busy)), to_ms(busy))
        case Retry(delay, failure):
            return (task_id, fence, "retry", to_ms(delay), _json(failure), to_ms(busy))
        case Bury(failure, fatal):
            return (task_id, fence, "bury", int(fatal), _json(failure), to_ms(busy))
        case Snooze(delay):
            return (task_id, fence, "snooze", to_ms(delay), "", to_ms(busy))
        case Unclaim(task, version, template, delay):
            return (task_id, fence, "unclaim", to_ms(delay), f"{version} {template} {task}", to_ms(busy))
        case Release():
            return (task_id, fence, "release", 0, "", to_ms(busy))
        case Cancel():
            return (task_id, fence, "cancel", 0, "", to_ms(busy))
        case _:
            assert_never(settlement.transition)
