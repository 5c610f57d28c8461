"""Groups: begun by a client or by a task's success, worked off, told of more than once, and broken."""

from collections.abc import Sequence

from stoker.queue.workflows.outbox import Outbox
from stoker.rules.effects import Effect, begin_or_defer
from stoker.rules.workflow import GroupStep, OutboxEntry, Steps, TaskStep, number
from tests.engine.line import QUEUE, message
from tests.proof.actions import ORIGIN, ended, launch, relay_all, take_turn
from tests.proof.steps import PRIORITIES, step
from tests.proof.world import Pick, World

SIZES = (1, 2, 2, 3)
TURNS = 12


def a_group(world: World, pick: Pick) -> tuple[Steps, str]:
    """A group, some of whose members are chains or groups themselves, and what follows it; with a key that nothing else has."""
    root = f"g{next(world.numbers)}"
    inside = pick((False, False, True))
    members = tuple(_member(pick, nested=inside and at == 0) for at in range(pick(SIZES)))
    after = (_link(pick, pick(("results", None))),) if pick((True, True, False)) else ()
    return number((GroupStep(members), *after), root), root


def _member(pick: Pick, *, nested: bool) -> Steps:
    if nested:
        return (GroupStep(((_link(pick),), (_link(pick),))), *pick(((), (_link(pick, "results"),))))
    return pick(((_link(pick),), (_link(pick), _link(pick, "result"))))


def _link(pick: Pick, into: str | None = None) -> TaskStep:
    return TaskStep(message("", pick(PRIORITIES)), into=into)


@step(6)
def begin_group(world: World, pick: Pick) -> None:
    """A client begins a group, at once or through the outbox; where it heard no answer, twice."""
    knows, times = pick((True, True, False)), pick((1, 1, 2))
    steps, key = a_group(world, pick)
    launch(world, steps, key, knows_places=knows, times=times)


@step(4)
def send_group(world: World, pick: Pick) -> None:
    """A task's success sets off a group."""
    if holders := [worker for worker in world.workers if worker.held]:
        worker, verb, knows = pick(holders), pick(("succeed", "succeed", "retry")), pick((True, False))
        which = pick(worker.held)
        steps, key = a_group(world, pick)
        take_turn(world, worker, [ended(world, which, verb, _effects(steps, key, knows_places=knows))], 0)


def _effects(steps: Steps, key: str, *, knows_places: bool) -> Sequence[Effect]:
    where = (lambda queue, _: queue) if knows_places else None
    return begin_or_defer(QUEUE, OutboxEntry(key, ORIGIN, steps), where)


@step(8)
def work_off(world: World, pick: Pick) -> None:
    """A worker does what there is, one task after the other, and relays now and then, some of it twice."""
    if not world.model.joins:
        begin_group(world, pick)
    worker, often = pick(world.workers), pick((1, 2, 3))
    for turn in range(pick((2, 4, TURNS))):
        settlements = [ended(world, delivery, "succeed") for delivery in worker.held]
        take_turn(world, worker, settlements, 1)
        if turn % often == 0 and (entries := world.call(Outbox(world.client, world.keys).read())):
            relay_all(world, entries)
            relay_all(world, entries if pick((True, False)) else entries[:1])
