"""Every interleaving of the real scripts, for as many steps as asked: two tasks, two workers, a cancellation, a lease that ends.

Breadth first, so what is found is found by the shortest way. Worlds that differ only in the numbers of fences, in counters and
in what nobody can tell apart are one state; each step from each state is taken once and held to all laws.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import NamedTuple

from stoker.queue.records import Delivery
from stoker.rules.admission import Admission
from tests.engine.line import message
from tests.proof.actions import beat_with, cancel_one, ended, offer, reap_all, take_turn
from tests.proof.histories import Found
from tests.proof.ledger import Broken
from tests.proof.model import Item, Rules, place_at
from tests.proof.model_time import Now
from tests.proof.steps import perform_act
from tests.proof.world import Fork, Step, Worker, World, fork, worker_of

TASKS, WORKERS = ("a", "b"), (0, 1)
PAST_THE_LEASE = 31_000
HOUR = 3600_000
CLOCK = (HOUR, -HOUR)  # wrong, and right again
VERBS = ("succeed", "retry", "release", "bury")
RULES = Rules(max_lost=2)
Act = Callable[[World], None]


class Explored(NamedTuple):
    """How far a search went. `depth` is the longest shortest way; `whole` where no state was left to go on from."""

    states: int
    transitions: int
    depth: int
    whole: bool


class Used(NamedTuple):
    """What happens once."""

    enqueued: frozenset[str] = frozenset()
    cancelled: bool = False
    clock: bool = False
    stepped: int = 0


def search(world: World, depth: int) -> Explored:
    """Take every step from every state within `depth` steps. Raises Found with the shortest way to a broken law."""
    world.begin(RULES)
    frontier: list[tuple[Fork, Used]] = [(fork(world), Used())]
    seen, transitions = {canonical(world, Used())}, 0
    for level in range(depth):
        following: list[tuple[Fork, Used]] = []
        for state, used in frontier:
            state.enter(world)
            for name, act, after in list(moves(world, used)):
                _take(world, state, Step(name), act)
                transitions += 1
                key = canonical(world, after)
                if key not in seen:
                    seen.add(key)
                    following.append((fork(world), after))
        if not following:
            return Explored(len(seen), transitions, level, whole=True)
        frontier = following
    return Explored(len(seen), transitions, depth, whole=False)


def _take(world: World, state: Fork, step: Step, act: Act) -> None:
    """Twice where a law does not hold: a clock that drifted while the machine was busy is no bug."""
    for attempt in (1, 2):
        state.enter(world)
        try:
            perform_act(world, step, act)
        except Broken as law:
            if attempt == 2:
                raise Found(law, RULES, world.history, "the search") from law
        else:
            return


def moves(world: World, used: Used) -> Iterator[tuple[str, Act, Used]]:
    """All that can happen next: a name, the step, and what has been used up by then."""
    for task_id in TASKS:
        if task_id not in used.enqueued:
            delay = 10.0 if task_id == "b" else 0.0
            entry = Admission(message(task_id), delay)
            yield f"enqueue {task_id}", partial(offer, entries=[entry]), used._replace(enqueued=used.enqueued | {task_id})
    for at in WORKERS:
        name = world.workers[at].name
        yield f"{name} fetches", partial(_fetch, at=at), used
        if held := world.workers[at].held:
            yield f"{name} beats", partial(_beat, at=at), used
            yield f"{name} crashes", partial(_crash, at=at), used
        for which, delivery in enumerate(held):
            for verb in VERBS:
                yield f"{name} settles {delivery.id}: {verb}", partial(_settle, at=at, which=which, verb=verb), used
    for which, delivery in enumerate(world.former):
        late = f"{worker_of(delivery)}, too late for {delivery.id}"
        yield f"{late}: succeed", partial(_settle_late, which=which), used
        yield f"{late}: beat", partial(_beat_late, which=which), used
    yield "reap", reap_all, used
    yield from _once(used)


def _once(used: Used) -> Iterator[tuple[str, Act, Used]]:
    """What happens once."""
    if not used.cancelled and "a" in used.enqueued:
        yield "cancel a", partial(_cancel, task_id="a"), used._replace(cancelled=True)
    if not used.clock:
        yield "the lease ends", _past_the_lease, used._replace(clock=True)
    if used.stepped < len(CLOCK) and used.enqueued:
        yield "the clock is put elsewhere", partial(_step_clock, by=CLOCK[used.stepped]), used._replace(stepped=used.stepped + 1)


def canonical(world: World, used: Used) -> Hashable:
    """What decides about all that can still happen. Nothing asks how often a task has failed, so whether it has is enough."""
    items = sorted(world.model.items.values(), key=lambda item: item.id)
    places = {item.id: _place_in_line(item) for item in items}
    order = sorted(set(places.values()))
    coming = world.picture.clocks.follow(world.clock.now).reading  # what the next call reads
    tasks = tuple(
        (
            *(item.id, item.place, order.index(places[item.id]), item.failures > 0, item.losses, item.cancel_at is not None),
            *(_is_over(item, coming), item.fence.split(":")[1:2], item.score > coming + RULES.lease),
        )
        for item in items
    )
    held = tuple(tuple(_delivery(world, delivery) for delivery in worker.held) for worker in world.workers)
    former = tuple(sorted(_delivery(world, delivery) for delivery in world.former))
    waking = world.picture.length(world.keys.wake), world.polling
    time = coming - coming.wall, coming > coming.sure, any(end <= coming.attended for end in world.model.delays.values())
    clearing = world.model.clear_until > coming and world.model.clearer
    return repr((tasks, held, former, waking, clearing, used.cancelled, used.clock, used.stepped, time if world.now else 0))


def _is_over(item: Item, now: Now) -> bool:
    """Its lease, or the wait for its time."""
    return item.score <= {"leases": now.sure, "scheduled": now.wall}.get(item.place, 0)


def _place_in_line(item: Item) -> float:
    """Where it stands, stood before it was taken, or will stand when it is due."""
    match item.place:
        case "ready" | "suspects":
            return item.score
        case "leases":
            return item.origin
        case "scheduled":
            return place_at(item.level, item.score)
    return 0.0


def _delivery(world: World, delivery: Delivery) -> tuple[str, str, bool, bool]:
    owned = world.model.owned(delivery.id, delivery.fence)
    return delivery.id, worker_of(delivery), owned, delivery.losses > 0


def _fetch(world: World, at: int) -> None:
    take_turn(world, world.workers[at], [], 1)


def _settle(world: World, at: int, which: int, verb: str) -> None:
    worker = world.workers[at]
    take_turn(world, worker, [ended(world, worker.held[which], verb)], 0)


def _settle_late(world: World, which: int) -> None:
    delivery = world.former[which]
    take_turn(world, Worker(worker_of(delivery)), [ended(world, delivery, "succeed")], 0)


def _beat(world: World, at: int) -> None:
    beat_with(world, world.workers[at])


def _beat_late(world: World, which: int) -> None:
    beat_with(world, Worker("frozen", [world.former[which]]))


def _crash(world: World, at: int) -> None:
    worker = world.workers[at]
    world.retire(*worker.held)
    worker.held = []


def _cancel(world: World, task_id: str) -> None:
    cancel_one(world, task_id)


def _past_the_lease(world: World) -> None:
    world.pass_time(PAST_THE_LEASE)


def _step_clock(world: World, by: int) -> None:
    world.step_clock(by)
