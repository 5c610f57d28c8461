"""Everything that anybody may do to a queue, one function each. A new verb of the engine gets its function here.

Each calls the engine, lets the model make the same move, and compares the answers. A step that has nothing to act on
does nothing.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from msgspec.structs import replace
from redis.exceptions import RedisError

from stoker.errors import StokerError
from stoker.queue.reads.events import attend
from stoker.queue.reads.inspector import Inspector
from stoker.queue.workflows.outbox import Outbox
from stoker.rules.admission import Admission
from stoker.rules.effects import EnqueueTask, PutInOutbox
from stoker.rules.losses import LossCause
from stoker.rules.states import TaskState
from stoker.rules.unique import Claim, Until
from stoker.rules.workflow import Origin, OutboxEntry, TaskStep
from tests.engine.line import QUEUE, message
from tests.proof.actions import answers, beat_with, cancel_one, ended, offer, reap_all, reap_worker, relay_all, take_turn, tell_of
from tests.proof.ledger import Broken, hold
from tests.proof.model import MEMORY
from tests.proof.world import Pick, Step, Worker, World, worker_of

PRIORITIES = (0, 0, 3, -100)
DELAYS = (0, 0, 0, 10_000, 40_000)
VERBS = ("succeed", "succeed", "retry", "retry later", "snooze", "release", "bury", "cancel")
SECOND, HOUR = 1000, 3600_000
UNTIL: tuple[Until, ...] = ("started", "done")
CAUSES = (None, LossCause.OUT_OF_MEMORY, LossCause.PREEMPTED)
LATER = (1, SECOND, 7 * SECOND, 11 * SECOND, 29_500, 31 * SECOND)
PLACES = {
    TaskState.READY: ("ready", "suspects", "unclaimed"),
    TaskState.SCHEDULED: ("scheduled",),
    TaskState.DEAD: ("dead",),
    TaskState.SUCCEEDED: ("done",),
    TaskState.CANCELLED: ("cancelled",),
}


class Kind(NamedTuple):
    """A kind of step, and how often it comes up."""

    act: Callable[[World, Pick], None]
    weight: int


STEPS: dict[str, Kind] = {}
"""By name; the order matters to seeds."""
FAMILIES: dict[str, list[str]] = {}
"""The names of steps by the module that has them, without its package."""


def step(weight: int) -> Callable[[Callable[[World, Pick], None]], Callable[[World, Pick], None]]:
    """Enter a function among the steps."""

    def enter(act: Callable[[World, Pick], None]) -> Callable[[World, Pick], None]:
        STEPS[act.__name__] = Kind(act, weight)
        FAMILIES.setdefault(act.__module__.rpartition(".")[2], []).append(act.__name__)
        return act

    return enter


def perform(world: World, step: Step) -> None:
    """Take a step. Raises Broken with the law that did not hold."""
    perform_act(world, step, lambda world: STEPS[step.name].act(world, Pick(step.numbers)))


def perform_act(world: World, step: Step, act: Callable[[World], None]) -> None:
    """Do this as the step of that name."""
    world.history.append(step)
    world.before = world.picture
    try:
        act(world)
    except (StokerError, RedisError) as error:
        raise Broken("no script fails", error) from error
    world.check()


def names() -> Iterator[str]:
    """Each as often as its weight."""
    for name, kind in STEPS.items():
        yield from [name] * kind.weight


@step(6)
def enqueue(world: World, pick: Pick) -> None:
    """One to three tasks in a call; new ones mostly, and such as are there already, with the same or another payload."""
    known, priority = sorted(world.model.items), pick(PRIORITIES)
    entries = [Admission(message(f"{next(world.numbers) * 37 % 1000:03}", priority), delay=pick(DELAYS) / 1000)]
    match pick(("one", "two", "then", "again", "other", "reused", "the only", "the only")):
        case "two":
            entries.append(Admission(message(f"{next(world.numbers) * 37 % 1000:03}", pick(PRIORITIES))))
        case "then":
            moment = (world.clock.now + pick((5 * SECOND, -5 * SECOND, 1, 0))) / 1000
            entries[0] = Admission(entries[0].message, run_at=moment)
        case "the only":
            claim = Claim(pick(("a", "b")), pick(UNTIL), pick((1e6, 1e6, 12.0)))
            its = entries[0].message
            soon = replace(its, expires=world.clock.now + 5 * SECOND) if next(world.numbers) % 2 else its
            entries[0] = replace(entries[0], message=soon, claim=claim)
        case "again" if known:
            same = world.model.items[pick(known)]
            entries.append(Admission(message(same.id, same.priority), delay=pick(DELAYS) / 1000))
        case "other" if known:
            entries.append(Admission(message(pick(known), other=True)))
        case "reused" if world.gone:
            entries.append(Admission(message(pick(world.gone))))
    offer(world, entries)


@step(10)
def turn(world: World, pick: Pick) -> None:
    """A worker settles some of what it holds and takes more, in one round trip, whose reply may be lost on its way."""
    worker, room = pick(world.workers), pick((1, 2, 3, 0, 1))
    ending = worker.held[: pick((0, 1, 2, 1))]
    reply_lost = pick((False,) * 9 + (True,))
    settlements = [ended(world, delivery, pick(VERBS)) for delivery in ending]
    take_turn(world, worker, settlements, room, reply_lost=reply_lost)


@step(4)
def fetch(world: World, pick: Pick) -> None:
    """A worker takes tasks."""
    take_turn(world, pick(world.workers), [], pick((1, 2, 3)))


@step(6)
def settle(world: World, pick: Pick) -> None:
    """A worker ends one of what it holds."""
    if holders := [worker for worker in world.workers if worker.held]:
        worker = pick(holders)
        take_turn(world, worker, [ended(world, pick(worker.held), pick(VERBS))], 0)


@step(8)
def send(world: World, pick: Pick) -> None:
    """A worker ends one of what it holds, and something follows if that counts: a child, or an entry of the outbox."""
    _send(world, pick)


def _send(world: World, pick: Pick) -> None:
    if holders := [worker for worker in world.workers if worker.held]:
        worker = pick(holders)
        verb = pick(("succeed", "succeed", "retry", "release"))
        take_turn(world, worker, [ended(world, pick(worker.held), verb, _following(world, pick))], 0)


@step(2)
def send_late(world: World, pick: Pick) -> None:
    """The same by somebody who was frozen, crashed or repeats itself; perhaps together with one that counts."""
    if world.former:
        delivery = pick(world.former)
        settlements = [ended(world, delivery, "succeed", _following(world, pick))]
        worker = pick(world.workers)
        if worker.held and pick((True, False)):
            settlements.append(ended(world, worker.held[0], "succeed"))
        take_turn(world, worker if len(settlements) > 1 else Worker(worker_of(delivery)), settlements, 0)


def _following(world: World, pick: Pick) -> list[EnqueueTask | PutInOutbox]:
    child = message(f"{next(world.numbers) * 37 % 1000:03}", pick(PRIORITIES))
    claim = Claim(pick(("a", "b")), "done", 1e6) if pick((False, True)) else None
    if pick((True, False)):
        return [EnqueueTask(QUEUE, Admission(child, pick(DELAYS) / 1000, 0, claim))]
    link = TaskStep(child, pick(DELAYS) / 1000, 0, claim)
    return [PutInOutbox(QUEUE, OutboxEntry(f"entry {child.id} {next(world.numbers)}", Origin(child.created), (link,)))]


@step(2)
def read_outbox(world: World, pick: Pick) -> None:
    """Somebody reads the outbox, and takes its time."""
    world.read, world.read_at = world.call(Outbox(world.client, world.keys).read()), world.now


@step(4)
def relay(world: World, pick: Pick) -> None:
    """What was read is relayed, perhaps for the second time; or all that is there now. Whoever does it may die of it."""
    there = world.call(Outbox(world.client, world.keys).read())
    recently = max(world.now, world.clock.now) < world.read_at + MEMORY  # nobody takes longer than what was relayed is remembered
    entries = world.read if recently and pick((True, False)) else there
    relay_all(world, entries, pick((None, None, 0, 1, 2, 3)))


@step(6)
def relay_again(world: World, pick: Pick) -> None:
    """Something is sent and relayed, what waits is purged, and somebody else relays the same: it does not come back."""
    _send(world, pick)
    entries = world.call(Outbox(world.client, world.keys).read())
    relay_all(world, entries)
    purge_all(world, pick((TaskState.READY, TaskState.SCHEDULED)))
    relay_all(world, entries)


@step(4)
def settle_late(world: World, pick: Pick) -> None:
    """Somebody who was frozen, crashed or repeats itself ends what it held once."""
    if world.former:
        delivery = pick(world.former)
        take_turn(world, Worker(worker_of(delivery)), [ended(world, delivery, pick(VERBS))], 0)


@step(4)
def beat(world: World, pick: Pick) -> None:
    """A worker's heartbeat."""
    beat_with(world, pick(world.workers))


@step(3)
def tell(world: World, pick: Pick) -> None:
    """Tasks say how far they are and what they log: of a delivery that is held, or was, or of both."""
    held = [delivery for worker in world.workers for delivery in worker.held]
    told = list(dict.fromkeys([*held[: pick((1, 2, 0))], *world.former[: pick((0, 1, 2))]]))
    if told:
        tell_of(world, told)


@step(2)
def beat_late(world: World, pick: Pick) -> None:
    """The heartbeat of one that was frozen."""
    if world.former:
        delivery = pick(world.former)
        beat_with(world, Worker(worker_of(delivery), [delivery]))


@step(3)
def crash(world: World, pick: Pick) -> None:
    """A worker dies, or is frozen: it may yet write."""
    worker = pick(world.workers)
    world.polling = world.polling or worker.woken
    world.retire(*worker.held)
    worker.held, worker.woken = [], False


@step(4)
def some_workers_die(world: World, pick: Pick) -> None:
    """The others go on beating, and the reaper comes when the leases of the dead have ended."""
    for worker in world.workers:
        if pick((True, False)):
            world.polling = world.polling or worker.woken
            world.retire(*worker.held)
            worker.held, worker.woken = [], False
    for _ in range(2):
        world.pass_time(round(world.rules.lease * 0.6))
        for worker in world.workers:
            beat_with(world, worker)
    reap_all(world)


@step(4)
def cancelled_and_lost(world: World, pick: Pick) -> None:
    """A person cancels what runs, perhaps for another time, and its worker dies before it hears of it."""
    if holders := [worker for worker in world.workers if worker.held]:
        worker = pick(holders)
        if pick((True, False)):
            take_turn(world, worker, [ended(world, worker.held[0], "retry")], 2)
        for delivery in worker.held:
            cancel_one(world, delivery.id)
        world.polling = world.polling or worker.woken
        world.retire(*worker.held)
        worker.held, worker.woken = [], False
        world.pass_time(world.rules.lease + SECOND)
        reap_all(world)


@step(2)
def wake(world: World, pick: Pick) -> None:
    """A worker that waits takes the wake token."""
    if world.client.exchange([("LPOP", world.keys.wake)])[0]:
        pick(world.workers).woken = True
    world.look()


@step(1)
def pass_on(world: World, pick: Pick) -> None:
    """One that was woken leaves instead."""
    world.call(world.line.broker.pass_on())
    pick(world.workers).woken = False


@step(5)
def reap(world: World, pick: Pick) -> None:
    """The reaper comes."""
    reap_all(world)


@step(3)
def a_pod_is_seen_to_end(world: World, pick: Pick) -> None:
    """The operator has what its worker held given back at once. It may be wrong, and the worker write on."""
    worker = pick(world.workers)
    if pick((True, True, False)):
        world.polling = world.polling or worker.woken
        world.retire(*worker.held)
        worker.held, worker.woken = [], False
    reap_worker(world, worker.name, worker.name.removesuffix("-7-abcdef"), pick(CAUSES))


@step(3)
def promote(world: World, pick: Pick) -> None:
    moved, _ = world.call(world.line.broker.promote())
    answers(moved, world.model.promote(world.now))


@step(2)
def sweep(world: World, pick: Pick) -> None:
    gone = world.call(world.line.broker.sweep())
    swept = world.model.sweep(world.now)
    world.forget(swept)
    answers(sum(gone), len(swept))


@step(3)
def cancel(world: World, pick: Pick) -> None:
    """A person cancels one task, whatever it does."""
    running = [item.id for item in world.model.at("leases")]
    if wanted := pick((running, sorted(world.model.items))):
        cancel_one(world, pick(wanted))


@step(2)
def pause(world: World, pick: Pick) -> None:
    """Or let it go on."""
    if world.model.paused or not pick((0, 1)):
        world.call(world.line.inspector.resume(QUEUE))
        world.model.paused = False
    else:
        world.call(world.line.inspector.pause(QUEUE))
        world.model.paused = True


@step(2)
def somebody_watches(world: World, pick: Pick) -> None:
    world.call(attend(world.client, world.keys))


@step(2)
def purge(world: World, pick: Pick) -> None:
    purge_all(world, pick(tuple(PLACES)))


def purge_all(world: World, state: TaskState) -> None:
    gone = world.call(_total(world.line.inspector, state))
    purged = world.model.purge(*PLACES[state])
    world.forget(purged)
    answers(gone, len(purged))


async def _total(inspector: Inspector, state: TaskState) -> int:
    return sum([gone async for gone in inspector.purge(QUEUE, state)])


@step(3)
def redrive(world: World, pick: Pick) -> None:
    """Some of the dead, and one that is not."""
    wanted = [item.id for item in world.model.at("dead")][: pick((1, 2, 3))] + sorted(world.model.items)[:1]
    wanted = list(dict.fromkeys(wanted))
    answers(world.call(world.line.inspector.redrive(QUEUE, wanted)), world.model.redrive(wanted, world.now))


@step(1)
def discard(world: World, pick: Pick) -> None:
    wanted = [item.id for item in world.model.at("dead")][: pick((1, 2))] + sorted(world.model.items)[:1]
    wanted = list(dict.fromkeys(wanted))
    gone = world.call(world.line.inspector.delete(QUEUE, wanted))
    discarded = world.model.discard(wanted)
    world.forget(discarded)
    answers(gone, discarded)


@step(6)
def time_passes(world: World, pick: Pick) -> None:
    world.pass_time(pick(LATER))


@step(1)
def an_hour_ahead(world: World, pick: Pick) -> None:
    world.step_clock(HOUR)


@step(1)
def an_hour_back(world: World, pick: Pick) -> None:
    world.step_clock(-HOUR)


@step(1)
def forget_scripts(world: World, pick: Pick) -> None:
    world.client.exchange([("SCRIPT", "FLUSH")])


@step(1)
def restart(world: World, pick: Pick) -> None:
    """The server is killed and comes back with its append-only file. One time in three: a restart takes as long as a history."""
    if pick((True, False, False)):
        world.server.stop()
        world.server.start()
        world.client.connect()
        world.clock.reconnect()
        world.look()
        hold("a restart changes nothing", world.before.content == world.picture.content, "with appendfsync always")


@step(2)
def snapshot(world: World, pick: Pick) -> None:
    """What a replica has."""
    world.saved = world.save()


@step(2)
def fail_over(world: World, pick: Pick) -> None:
    """To a replica without the last writes: fences, counters and the clock's mark roll back; workers believe what they did."""
    if world.saved:
        world.go_back(world.saved)
        world.client.exchange([("SCRIPT", "FLUSH")])
        world.polling = True


@step(2)
def examine(world: World, pick: Pick) -> None:
    """The doctor finds nothing, once what lies in the outbox is relayed. Whoever is not awake would make it wait."""
    while entries := world.call(Outbox(world.client, world.keys).read()):
        relay_all(world, entries)
    if world.picture.length(world.keys.ready) and not world.picture.length(world.keys.wake) and not world.model.paused:
        return
    hold("the doctor finds nothing", not (found := world.call(_findings(world.line.inspector))), found)


async def _findings(inspector: Inspector) -> list[object]:
    return [finding async for finding in inspector.examine(QUEUE)]
