"""What clients, workers and upkeep do: the engine's call, the model's move, and their answers compared. For steps and search."""

import math
from collections.abc import Mapping, Sequence
from itertools import count

import msgspec
from msgspec import Raw

from stoker.errors import Conflict
from stoker.queue.broker import pulse
from stoker.queue.progress import Note
from stoker.queue.records import Delivery, Holds, Pulse, Receipt, Turn
from stoker.queue.scripts import run
from stoker.queue.settlements import Settlement
from stoker.queue.workflows.effects import Keyed, launch_call
from stoker.queue.workflows.outbox import StoredEntry
from stoker.rules.admission import Admission
from stoker.rules.announcement import Announcement
from stoker.rules.dead_task import Burial
from stoker.rules.effects import CompleteMember, Effect, EnqueueTask, OpenJoin, PutInOutbox, begin, begin_or_defer
from stoker.rules.losses import LossCause, is_suspect
from stoker.rules.message import Message, decode, digest, encode
from stoker.rules.settle import Bury, Cancel, Failure, Release, Retry, Snooze, Succeed, Transition, Unclaim
from stoker.rules.workflow import Origin, OutboxEntry, Steps, TaskStep, load_onward
from tests.engine.line import QUEUE
from tests.proof import model_joins
from tests.proof.ledger import hold
from tests.proof.model import GRACE, LONGEST_LOOK, US, End, Wish
from tests.proof.model_joins import Came
from tests.proof.world import TEMPLATES, Worker, World, name_of

ORIGIN = Origin(1_800_000_000_000)
NO_HOOKS: Mapping[str, str] = {}


class Died(Exception):
    """Whoever did this does no more."""


def answers(found: object, expected: object) -> None:
    hold("the answer is the model's", found == expected, f"{found}, must be {expected}")


def offer(world: World, entries: Sequence[Admission]) -> None:
    found = world.call(world.line.broker.enqueue(entries))
    wishes = [as_wish(entry) for entry in entries]
    expected = world.model.enqueue(wishes, world.now)
    for wish, answer in zip(wishes, expected, strict=True):
        if answer in ("ready", "scheduled"):
            due = world.now.wall + wish.delay if wish.delay else wish.due
            world.ledger.acknowledged(
                wish.id, wish.priority, due if answer == "scheduled" else 0, delayed_until(world, wish.id, due)
            )
            world.ledger.another(wish.id)
    answers([_answer(entry.message.id, got) for entry, got in zip(entries, found, strict=True)], expected)


def as_wish(entry: Admission) -> Wish:
    claim = (entry.claim.until[0], entry.claim.digest, round(entry.claim.ttl * 1000)) if entry.claim else None
    task = entry.message
    return Wish(task.id, encode(task), task.priority, round(entry.delay * 1000), round(entry.run_at * 1000), claim)


def _answer(task_id: str, got: Receipt | Conflict) -> str:
    if isinstance(got, Conflict):
        return "conflict"
    return str(got.state or ("duplicate" if got.id == task_id else f"held by {got.id}"))


def ended(world: World, delivery: Delivery, verb: str, items: Sequence[Effect] = (), unknown: Unclaim | None = None) -> Settlement:
    number = next(world.numbers)
    failure = Failure(f"Error{number}", "no")
    ends: dict[str, Transition] = {
        "succeed": Succeed(b"%d" % number),
        "retry": Retry(0, failure),
        "retry later": Retry(7, failure),
        "snooze": Snooze(5),
        "release": Release(),
        "bury": Bury(failure, fatal=number % 3 == 0),
        "cancel": Cancel(),
        "unclaim": unknown or Unclaim("nothing", 9, "other", 5),
    }
    value = Raw(b"%d" % number)
    following = _onward(delivery, value, knows_places=number % 2 == 1) if verb == "succeed" else []
    return Settlement(delivery.id, delivery.fence, ends[verb], number / 1000, [*following, *items])


def _onward(delivery: Delivery, value: Raw, *, knows_places: bool) -> list[Effect]:
    """What its envelope says is to follow, at once or through the outbox."""
    onward = load_onward(decode(delivery.envelope).onward)
    entry = OutboxEntry(digest(delivery.fence), ORIGIN, onward.steps, onward.member, value)
    return begin_or_defer(QUEUE, entry, _here if knows_places else None)


def _here(queue: str, _: object) -> str:
    return queue


def take_turn(world: World, worker: Worker, settlements: list[Settlement], room: int, *, reply_lost: bool = False) -> None:
    """A worker settles these and takes up to `room` tasks. Where the reply is lost, it goes on believing what it did."""
    ending = {settlement.fence for settlement in settlements}
    left = [delivery for delivery in worker.held if delivery.fence not in ending]
    if any(delivery.last_life for delivery in left):
        room = 0
    holds = Holds.SUSPECT if any(is_suspect(delivery.losses) for delivery in left) else Holds.TASKS if left else Holds.NOTHING
    turn = world.call(world.line.broker.turn(settlements, room, worker.name, holds))

    # Where the server had forgotten how to settle, that came second, by its text.
    fetched_first = bool(settlements) and room > 0 and world.client.unknown == [True, False]
    if fetched_first:
        _fetched(world, turn, room, worker.name, holds)
        world.ledger.touched(*(delivery.id for delivery in turn.deliveries))
    if settlements:
        _settled(world, settlements, turn, alone=not room)
    if room and not fetched_first:
        _fetched(world, turn, room, worker.name, holds)
        line = [task_id.decode() for task_id in world.picture.zset(world.keys.ready)]
        world.ledger.in_order(turn.deliveries, line)
    if room:
        worker.woken = False
    if not reply_lost:
        world.retire(*(delivery for delivery in worker.held if delivery.fence in ending))
        worker.held = left + turn.deliveries


def _settled(world: World, settlements: list[Settlement], turn: Turn, *, alone: bool) -> None:
    ends = [as_end(settlement) for settlement in settlements]
    accepted = world.model.settle(ends, world.now)
    if alone and not any(accepted):  # a fetch beside them promotes what is due, though it may take nothing
        world.nothing_changed()
    answers([each not in turn.refused for each in settlements], accepted)
    for settlement, ok in zip(settlements, accepted, strict=True):
        if ok and isinstance(settlement.transition, Succeed):
            _followed(world, settlement.effects)
    for end in (end for end, ok in zip(ends, accepted, strict=True) if ok):
        if end.verb == "succeed" and world.rules.keep:
            world.ledger.succeeded(end.id, int(end.body))
        elif end.verb == "succeed":
            world.forget([end.id])
        elif end.delay and world.model.items[end.id].place == "scheduled":
            world.ledger.not_before[end.id] = world.now.wall + end.delay
            world.ledger.at_last[end.id] = world.now.attended + end.delay


def launch(world: World, steps: Steps, key: str, *, knows_places: bool, times: int) -> None:
    """A client begins a workflow; one that has heard no answer says it again."""
    items = begin_or_defer(QUEUE, OutboxEntry(key, ORIGIN, steps), _here if knows_places else None)
    keyed = [Keyed(f"{key} {at}", item) for at, item in enumerate(items)]
    for _ in range(times):
        [found] = world.call(run(world.client, launch_call(world.keys, keyed)))
        answers([bool(fresh) for fresh in found], [not old for old in _performed(world, items, [each.key for each in keyed])])


def _followed(world: World, items: Sequence[Effect]) -> None:
    """The model does what these say, and the ledger hears of it."""
    for item in items:
        match item:
            case OpenJoin(_, placeholder, total):
                world.ledger.joins.setdefault(placeholder.id, total)
            case CompleteMember(member):
                world.ledger.arrived.setdefault(member.join, set()).add(member.at)
            case PutInOutbox(_, entry) if entry.member and not entry.steps:
                world.ledger.arrived.setdefault(entry.member.join, set()).add(entry.member.at)
        came(world, model_joins.perform(world.model, item, world.now))


def delayed_until(world: World, task_id: str, due: int) -> float:
    """When its delay ends at last, whatever the real clock says."""
    return world.model.delays.get(f"{task_id}{US}{due}", math.inf)


def came(world: World, tasks: Sequence[Came]) -> None:
    for task in tasks:
        world.ledger.acknowledged(task.id, task.priority, task.due, delayed_until(world, task.id, task.due))
        if task.buried:
            world.ledger.broken.add(task.id)
            world.ledger.touched(task.id)


def _performed(world: World, items: Sequence[Effect], keys: list[str]) -> list[bool]:
    """One call of a script that performs items. Returns which of them were known."""
    known = world.model.remember(keys, world.now)
    _followed(world, [item for item, old in zip(items, known, strict=True) if not old])
    return known


def relay_all(world: World, entries: Sequence[StoredEntry], steps: int | None = None) -> None:
    """Somebody relays what it has read, perhaps long ago; and dies after so many steps, if given."""
    box = world.engine.outbox(world.client, world.keys)
    if steps is not None:
        whole, taken = box._perform, count()

        async def as_long_as_it_lives(items: Sequence[Keyed]) -> None:
            if next(taken) >= steps:
                raise Died
            await whole(items)

        box._perform = as_long_as_it_lives
    try:
        world.call(box.relay(entries))
    except Died:
        world.look()
    _relayed(world, entries, steps)


def _relayed(world: World, entries: Sequence[StoredEntry], steps: int | None) -> None:
    """The model's side: of each entry joins first, then the others, and when all are through the entries go."""
    taken = count()
    for stored in entries:
        for items in _in_order(stored):
            if steps is not None and next(taken) >= steps:
                return
            _performed(world, items, [_key(stored, item) for item in items])
        if b"join" in stored.fields:
            world.model.remember([""], world.now)
            came(world, model_joins.part(world.model, stored.fields[b"join"].decode(), world.now))
    for stored in entries:
        if (name := name_of(stored.fields)) in world.model.outbox:
            world.model.outbox.remove(name)


def _in_order(stored: StoredEntry) -> list[list[Effect]]:
    entry = stored.read()
    if isinstance(entry, Burial):
        return [[], [item for each in entry.entries() for item in begin(each, _here)]]
    if not isinstance(entry, OutboxEntry):
        return [[], []]
    items = list(begin(entry, _here))
    joins = [item for item in items if isinstance(item, OpenJoin)]
    return [joins, [item for item in items if not isinstance(item, OpenJoin)]]


def _key(stored: StoredEntry, item: Effect) -> str:
    entry = stored.read()
    match item:
        case EnqueueTask(_, admission) if isinstance(entry, Burial):
            return f"handler {admission.message.id}"
        case EnqueueTask(_, admission):
            assert isinstance(entry, OutboxEntry)
            return f"{entry.key} {admission.message.id}"
        case OpenJoin(_, placeholder):
            assert isinstance(entry, OutboxEntry)
            return f"{entry.key} join {placeholder.id}"
    return ""


def _fetched(world: World, turn: Turn, room: int, worker: str, holds: Holds) -> None:
    expected, clear = world.model.fetch(room, world.now, worker, holds)
    _minded(world, worker, turn.mind_in, world.model.first_due(world.now))
    found = [(d.id, d.failures, d.losses, round(d.waited * 1000)) for d in turn.deliveries]
    answers((found, turn.clear), ([tuple(task) for task in expected], clear))
    world.ledger.handed_out(turn.deliveries)
    for delivery in turn.deliveries:
        world.model.own(delivery.id, delivery.fence)
        hold("a run begins by the real clock", delivery.taken == world.now.wall, delivery)
        world.ledger.renewed[delivery.id] = world.lived
        hold("an envelope never changes", delivery.envelope == world.model.items[delivery.id].envelope, delivery)
    suspects = (holds is Holds.SUSPECT) + sum(is_suspect(delivery.losses) for delivery in turn.deliveries)
    hold("a worker never holds two suspects", suspects <= 1, turn)
    alone = len(turn.deliveries) == 1 and holds is Holds.NOTHING
    last = [each.id for each in turn.deliveries if world.model.on_last_life(world.model.items[each.id])]
    hold("a task on its last life has its worker to itself", not last or alone, turn)


def as_end(settlement: Settlement) -> End:
    transition = settlement.transition
    verb, delay, body = type(transition).__name__.lower(), 0.0, ""
    match transition:
        case Succeed(value):
            body = value.decode()
        case Retry(delay, failure):
            body = failure.type
        case Bury(failure, fatal):
            body, delay = failure.type, fatal / 1000
        case Snooze(delay):
            pass
        case Unclaim(task, version, template, delay):
            body = f"{version} {template} {task}"
    return End(settlement.id, settlement.fence, verb, round(delay * 1000), body, round(settlement.busy * 1000))


def beat_with(world: World, worker: Worker) -> None:
    """It gives up what it hears is lost, and announces what it knows if it is asked to."""
    answer = heartbeat(world, worker.name, worker.held, worker.template)
    if worker.template and answer.announce:
        announce(world, worker.template)
    world.retire(*(delivery for delivery in worker.held if delivery.fence in answer.lost))
    worker.held = [delivery for delivery in worker.held if delivery.fence not in answer.lost]


def announce(world: World, template: str, hooks: Mapping[str, str] = NO_HOOKS) -> None:
    """`hooks`: task -> what handles its death."""
    steps = {name: msgspec.json.encode(handler_step(task)).decode() for name, task in hooks.items()}
    announcement = Announcement(template, TEMPLATES[template], steps)
    [[released, more]] = world.call(run(world.client, world.line.broker.announce_call(announcement)))
    answers((released, more), (world.model.announce(template, TEMPLATES[template], world.now, dict(hooks)), 0))


def handler_step(task: str) -> TaskStep:
    return TaskStep(Message("", task, Raw(b"{}"), QUEUE, 0), into="dead")


def heartbeat(world: World, worker: str, held: Sequence[Delivery], template: str = "") -> Pulse:
    info = b'{"slots":1,"template":"%s"}' % template.encode() if template else b"{}"
    call = world.line.broker.heartbeat_call(worker, info, {delivery.fence: delivery.id for delivery in held})
    answer = pulse(world.call(run(world.client, call))[0])
    pairs = [(delivery.id, delivery.fence) for delivery in held]
    lost, cancelled, fresh = world.model.heartbeat(worker, template, pairs, world.now)
    for delivery in held:
        if delivery.fence not in lost:
            world.ledger.renewed[delivery.id] = world.lived
    if held and len(lost) == len(held):
        world.nothing_changed()
    answers((answer.paused, set(answer.lost), set(answer.cancelled), answer.announce), (world.model.paused, lost, cancelled, fresh))
    _minded(world, worker, answer.mind_in, None)
    return answer


def _minded(world: World, worker: str, mind_in: float | None, due: float | None) -> None:
    """A call of a worker that may have made it the minder. `due`: when the first task falls due, as far as the call knows."""
    answers(_ms(mind_in), world.model.take_over(worker, world.now, due))
    look = world.mind_until - GRACE
    hold("what is due is minded", world.now - GRACE < look <= world.now + LONGEST_LOOK, (look, world.now))
    hold("what is due is minded", due is None or look <= max(world.now, due + world.now - world.now.wall), (look, due))


def mind(world: World, worker: str) -> None:
    """A worker that is the minder, or believes that it is, looks for chores."""
    found = world.call(world.line.broker.mind(worker))
    others = world.now < world.model.mind_until and world.model.minder != worker
    hold("one worker minds", (found is None) == others, (found, world.model.minder))
    if found is None:
        return
    names, next_in = world.chores_due()
    answers((set(found.names), round(found.next_in * 1000)), (names, next_in))
    world.model.minder, world.model.mind_until = worker, world.now + next_in + GRACE


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def cancel_one(world: World, task_id: str) -> None:
    [answer] = world.call(world.line.inspector.cancel(QUEUE, [task_id]))
    answers(str(answer), world.model.cancel(task_id, world.now))
    world.ledger.touched(task_id)


def tell_of(world: World, deliveries: Sequence[Delivery]) -> None:
    """Each says a number as its progress, and logs it."""
    news = [(delivery, next(world.numbers)) for delivery in deliveries]
    notes = [Note(each.id, each.fence, b"%d" % number, number, [b"%d" % number]) for each, number in news]
    accepted = world.call(world.line.broker.write_notes(notes))
    expected = world.model.tell([(each.id, each.fence, number) for each, number in news])
    if not any(accepted):
        world.nothing_changed()
    answers(accepted, expected)


def reap_worker(world: World, worker: str, host: str, cause: LossCause | None = None) -> None:
    """Somebody saw a machine end, and says so."""
    known = worker.encode() in world.picture.hash(world.keys.workers)
    reaped = world.call(world.line.inspector.reap_worker(QUEUE, host, world.rules.max_lost, cause))
    answers((reaped.given_back, reaped.buried), world.model.reap(world.now, "WorkerLost", worker, cause))
    if known:
        world.model.stop_minding(worker)


def reap_all(world: World) -> None:
    held = {item.id for item in world.model.at("leases")}
    reaped = world.call(world.line.broker.reap())
    answers((reaped.given_back, reaped.buried), world.model.reap(world.now, "WorkerLost"))
    world.ledger.lost(held - {item.id for item in world.model.at("leases")}, world.lived, world.rules.lease)
    overdue = [score for score in world.picture.zset(world.keys.leases).values() if score <= world.now.sure]
    hold("no lease is stuck", not overdue, overdue)
