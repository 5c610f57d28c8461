"""One queue on a real server whose clock stands still, everybody who uses it, and the laws that hold after every step.

A step is a name and a few numbers; the numbers choose among whatever there is to choose from, so any list of steps is a
history. That is what lets hypothesis, seeds and the exhaustive search share one vocabulary (`steps.py`), and makes a history
shorter by leaving steps out.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, TypeVar

from stoker.manifest.policies import Keep, KeepFor, Lease, Retention
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.records import Delivery
from stoker.queue.schedules import Schedules
from stoker.queue.scripts import Argument
from stoker.queue.workflows.outbox import Outbox, StoredEntry
from stoker.rules.history import What, what_of
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from stoker.rules.workflow import load_entry
from tests.engine.line import Line
from tests.proof.ledger import Broken, Ledger, Lived, hold
from tests.proof.model import LEFT_OVER, LONGEST_LOOK, SHORTEST_LOOK, Model, Names, Rules
from tests.proof.model_schedules import CREATED, Run
from tests.proof.model_time import GAP, Now
from tests.proof.movable import NEW_YEAR_2027, MovableClock
from tests.proof.picture import Picture, dump, restore
from tests.proof.straight import Straight, done
from tests.redis_servers import Server
from tests.task_life import LEADS_TO

T = TypeVar("T")
WORKERS = ("pod-1-7-abcdef", "pod-12-7-abcdef", "pod-1-7-7-abcdef")
"""Processes of three pods whose names begin alike: pod-1, pod-12 and pod-1-7."""
TEMPLATES: dict[str, Names] = {"old": {"add": 0}, "new": {"add": 1, "mul": 0}, "other": {"div": 3}, "large": None}
"""What workers of each template announce."""
FORMER = 6
STATES = {
    "ready": TaskState.READY,
    "suspects": TaskState.READY,
    "leases": TaskState.RUNNING,
    "scheduled": TaskState.SCHEDULED,
    "dead": TaskState.DEAD,
    "done": TaskState.SUCCEEDED,
    "cancelled": TaskState.CANCELLED,
    "unclaimed": TaskState.READY,
}
DRIFT = 2  # ms: Valkey adds what its monotonic clock says to a wall clock that stands still


class Step(NamedTuple):
    """One move of somebody, by its name in `steps.STEPS`."""

    name: str
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}{self.numbers}"


class Pick:
    """Choices by number: any number fits any choice. The first is taken where the numbers have run out."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = iter(numbers)

    def __call__(self, options: Sequence[T]) -> T:
        return options[next(self._numbers, 0) % len(options)]


@dataclass
class Worker:
    """What one worker believes."""

    name: str
    held: list[Delivery] = field(default_factory=list)
    woken: bool = False
    template: str = ""


class Saved(NamedTuple):
    """A moment that can be gone back to."""

    keys: list[bytes]
    model: Model
    ledger: Ledger


class SlowSchedules(Schedules):
    """The schedules, for somebody who may take time between a look and what follows from it."""

    def __init__(self, client: Straight, keys: Keys) -> None:
        super().__init__(client, keys, lambda: CREATED / 1000)
        self.slowly = False
        self.pending: tuple[Sequence[Argument], list[Run]] = ([], [])

    async def _start(self, entries: Sequence[Argument]) -> list[str]:
        if not self.slowly:
            return await super()._start(entries)
        self.pending = entries, []
        return ["stale"] * (len(entries) // 12)

    async def start(self) -> list[str]:
        """What was put off."""
        return await super()._start(self.pending[0]) if self.pending[0] else []


@dataclass(frozen=True)
class Engine:
    """What is under test: these may be copies with a bug planted in them."""

    broker: Callable[..., Any] = Broker
    outbox: Callable[..., Any] = Outbox


class World:
    """A queue and its people."""

    def __init__(self, server: Server, clock: MovableClock, engine: Engine, rules: Rules = Rules()) -> None:
        self.server, self.clock, self.engine = server, clock, engine
        self.client = Straight(server.port)
        self.begin(rules)

    def begin(self, rules: Rules) -> None:
        """An empty queue at new year."""
        self.rules = rules
        self.clock.now = NEW_YEAR_2027
        self.client.exchange([("FLUSHALL",)])
        lease = Lease(Duration(rules.lease / 1000), rules.max_lost)
        retention = Retention(
            Keep(Duration(rules.keep / 1000), rules.keep_count),
            Keep(Duration(rules.keep_dead / 1000), rules.keep_dead_count),
            KeepFor(Duration(rules.keep_unclaimed / 1000)),
        )
        self.line = Line(self.client, lease, retention)
        self.keys = self.line.keys
        self.line.broker = self.engine.broker(self.client, self.keys, lease, retention)
        self._reader = Line(self.client, lease, retention)
        self.model, self.ledger, self.lived = Model(rules), Ledger(), Lived()
        self.workers = [Worker(name, template=template) for name, template in zip(WORKERS, TEMPLATES, strict=False)]
        self.former: list[Delivery] = []
        self.saved: Saved | None = None
        self.numbers = count(1)
        self.gone: list[str] = []
        self.read: list[StoredEntry] = []  # what somebody has read in the outbox and not relayed yet, or relays again
        self.read_at = 0
        self.schedules = SlowSchedules(self.client, self.keys)
        self.polling = False  # a wake token was lost with its worker: the others find out when their wait ends
        self.history: list[Step] = []
        self.recorded: set[bytes] = set()  # positions of events that were seen
        self.before = self.picture = self.checked = Picture(self.client, self.keys)

    def close(self) -> None:
        self.client.disconnect()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a call to the queue and look at what it has changed."""
        answer = done(work)
        self.look()
        return answer

    def look(self) -> None:
        self.before, self.picture = self.picture, Picture(self.client, self.keys)
        self.ledger.died(self.before, self.picture, self.keys)
        self._clock_goes_on()

    def pass_time(self, ms: int) -> None:
        """Time in which somebody calls every second."""
        if self.picture.clocks.now:
            columns = self.picture.clocks.attend(self.clock.now, ms).columns()
            self.client.exchange([("HSET", self.keys.meta, *columns)])
            self.picture = Picture(self.client, self.keys)
        self.idle(ms)

    def idle(self, ms: int) -> None:
        """Time in which nobody calls."""
        self.clock.now += ms
        self.lived = self.lived._replace(ms=self.lived.ms + ms)

    def step_clock(self, ms: int) -> None:
        """The clock is put elsewhere; no time passes."""
        self.clock.now += ms
        self.lived = self.lived._replace(steps=self.lived.steps + 1)

    @property
    def now(self) -> Now:
        return self.picture.now

    @property
    def mind_until(self) -> int:
        return int(self.picture.hash(self.keys.meta).get(b"mind_until", 0))

    def chores_due(self) -> tuple[set[str], int]:
        """The chores that are due, and the ms until a minder that knows this is to look again."""
        picture, keys, now, rules = self.picture, self.keys, self.now, self.rules

        def ended(key: str, age: int, most: int) -> bool:
            content = picture.zset(key)
            return len(content) > most or any(score + age <= now.wall for score in content.values())

        def passed(at: int, *names: str) -> bool:
            return any(score <= at for name in names for score in picture.zset(name).values())

        entries = [int(position.split(b"-")[0]) for position, _ in picture.content.get(keys.outbox.encode(), ())]
        due = {
            "promotion": passed(now.wall, keys.scheduled) or passed(now.attended, keys.delayed),
            "start runs": passed(now.wall, keys.upcoming) or bool(picture.hash(keys.runs)),
            "reap": passed(now.sure, keys.leases, keys.beats),
            "take in": bool(picture.length(keys.inbox)),
            "relay": bool(entries) and not 0 <= now.wall - entries[0] < LEFT_OVER,
            "sweep": ended(keys.done, 0, rules.keep_count)
            or ended(keys.cancelled, rules.keep, rules.keep_count)
            or ended(keys.dead, rules.keep_dead, rules.keep_dead_count)
            or passed(now.sure, keys.relayed)
            or any(since + rules.keep_unclaimed <= now for since in picture.zset(keys.unclaimed).values()),
        }
        coming = () if due["promotion"] else picture.zset(keys.scheduled).values()
        delays = () if due["promotion"] else picture.zset(keys.delayed).values()
        runs = () if due["start runs"] else picture.zset(keys.upcoming).values()
        moments = [int(score) - now.wall for score in (*coming, *runs)]
        next_in = min([LONGEST_LOOK, *moments, *(int(end) - now.attended for end in delays)])
        return {name for name, is_due in due.items() if is_due}, max(next_in, SHORTEST_LOOK)

    def save(self) -> Saved:
        return Saved(dump(self.client), self.model.copy(), self.ledger.snapshot())

    def go_back(self, saved: Saved) -> None:
        restore(self.client, saved.keys)
        self.model, self.ledger = saved.model.copy(), saved.ledger.snapshot()
        self.before = self.picture = self.checked = Picture(self.client, self.keys)

    def retire(self, *deliveries: Delivery) -> None:
        """These may be written about again, too late. Of what a worker held of one task only the last is of interest."""
        fresh = {_whose(delivery) for delivery in deliveries}
        self.former = [*(known for known in self.former if _whose(known) not in fresh), *deliveries][-FORMER:]

    def forget(self, ids: Sequence[str]) -> None:
        """Removed for good; their ids are free."""
        self.ledger.removed(ids)
        self.gone += ids

    def check(self) -> None:
        """The laws that hold after every step."""
        picture, keys, text = self.picture, self.keys, _text
        self._reader.redis = picture.reader()
        try:
            done(self._reader.check())
        except AssertionError as error:
            raise Broken("every task is in exactly one place", error) from error
        outcomes = {text(task_id): json.loads(result)["value"] for task_id, result in picture.hash(keys.results).items()}
        on_the_way = {text(task_id) for key in (keys.ready, keys.suspects, keys.leases) for task_id in picture.zset(key)}
        self.ledger.check({text(task_id) for task_id in picture.hash(keys.tasks)}, outcomes, on_the_way, picture)
        self.ledger.check_workflows(self.checked, picture, keys.joins, keys.tasks)
        self.ledger.check_handlers(self.checked, picture, keys)
        self._each_schedule_waits_for_one_run()
        self._agrees_with_the_model()
        self._nothing_known_is_unclaimed()
        self._somebody_is_awake()
        self._what_happened_is_told()
        self.checked = picture

    def nothing_changed(self) -> None:
        """A write with a stale fence leaves nothing behind but a count, and the sign of life of who made it."""
        keys = self.keys
        ignored = (keys.meta, keys.stats, keys.workers, keys.beats, keys.events)
        hold("a stale fence changes nothing", self.before.without(*ignored) == self.picture.without(*ignored), "see the step")

    def _clock_goes_on(self) -> None:
        clocks, was, now = self.before.clocks, self.before.now, self.picture.now
        if clocks == self.picture.clocks or not now:
            return
        hold("time is Redis' own", self.clock.now <= now.wall <= self.clock.now + DRIFT, (now.wall, self.clock.now))
        expected = clocks.follow(now.wall).reading
        hold("the model agrees on time", _readings(now) == _readings(expected), (_readings(now), _readings(expected)))
        if was:
            passed = now.wall - was.wall
            hold("time never goes back", now >= was and now.sure >= was.sure and now.attended >= was.attended, (was, now))
            hold("time does not stand still", now.sure - was.sure >= max(0, min(passed, GAP)), (was.sure, now.sure))
            hold("a step of the clock is little time", now.attended - was.attended <= GAP, (was.attended, now.attended))
            hold("what has caught up is real", now == now.wall or now - was <= GAP, (was, now, now.wall))

    def _agrees_with_the_model(self) -> None:
        picture, keys, model = self.picture, self.keys, self.model
        for key, expected in model.expected(keys).items():
            found = _readable(key, picture, self.keys)
            if found != expected:
                raise Broken(f"the model agrees on {key.rpartition(':')[2]}", _difference(found, expected))
        entries = [name_of(_pairs(fields)) for _, fields in picture.content.get(keys.outbox.encode(), ())]
        hold("the model agrees on the outbox", sorted(entries) == sorted(model.outbox), (entries, model.outbox))
        counters = {_text(name): value for name, value in picture.hash(keys.stats).items()}
        for name, value in model.counters.items():
            hold("everything is counted", int(counters.get(name, 0)) == value, (name, counters.get(name), value))
        hold("everything is counted", "invariant_violations" not in counters, counters)
        hold("the model agrees on meta", (b"paused" in picture.hash(keys.meta)) == model.paused, "paused")
        hold("the model agrees on meta", int(picture.hash(keys.meta).get(b"fence", 0)) == model.fences, "fence counter")
        claim = model.holder.encode() if model.holder else None
        hold("the model agrees on meta", picture.hash(keys.meta).get(b"claim") == claim, "claim")
        clearer = picture.hash(keys.meta).get(b"clearer", b"").decode(), int(picture.hash(keys.meta).get(b"clear_until", 0))
        hold("the model agrees on meta", clearer == (model.clearer, model.clear_until), (clearer, model.clearer, model.clear_until))
        minder = picture.hash(keys.meta).get(b"minder", b"").decode(), self.mind_until
        hold("the model agrees on meta", minder == (model.minder, model.mind_until), (minder, model.minder, model.mind_until))

    def _each_schedule_waits_for_one_run(self) -> None:
        """Unless it is paused, or suspended by its definition."""
        columns = {_text(name): value for name, value in self.picture.hash(self.keys.schedules).items()}
        names = {name.removeprefix("definition ") for name in columns if name.startswith("definition ")}
        idle = {name for name in names if f"paused {name}" in columns or b'"suspend":true' in columns[f"definition {name}"]}
        waiting = {_text(name) for name in self.picture.zset(self.keys.upcoming)}
        hold("every schedule waits for one run, or for none if it is idle", waiting == names - idle, (waiting, names, idle))

    def _what_happened_is_told(self) -> None:
        """With an audience every change of a task's state has its event, and no event says what is not so; without one, silence."""
        was, now, key = self.checked, self.picture, self.keys.events.encode()
        known = {position for position, _ in was.content.get(key, ())}
        told = [fields for position, fields in now.content.get(key, ()) if position not in known]
        # The log expires by the real clock: an hour ahead hides it, and it is there again when the clock is right.
        positions = {position for position, _ in now.content.get(key, ())}
        news, self.recorded = positions - known - self.recorded, self.recorded | positions
        until = int(was.hash(self.keys.meta).get(b"audience_until", 0))
        hold("without an audience nothing is told", not news or until > was.now.sure, told)
        if until <= now.now.sure:
            return
        before, after = self._states(was), self._states(now)
        last = {_text(fields[3]): what_of(_text(fields[1])) for fields in told}
        silent = {task_id for task_id in before.keys() | after.keys() if before.get(task_id) != after.get(task_id)} - last.keys()
        hold("every change is told", not silent, silent)
        for task_id, what in last.items():
            state = after.get(task_id)
            dropped = what is What.SUCCEEDED and state is None and not self.rules.keep
            true = dropped or what not in LEADS_TO or (state in LEADS_TO[what] if state else not LEADS_TO[what])
            hold("what is told is so", true, (task_id, what, state))

    def _states(self, picture: Picture) -> dict[str, TaskState]:
        return {_text(task_id): state for place, state in STATES.items() for task_id in picture.zset(getattr(self.keys, place))}

    def _nothing_known_is_unclaimed(self) -> None:
        """What a living worker has announced that it knows runs, and does not wait."""
        model, now = self.model, self.now
        for item in model.at("unclaimed"):
            assert item.unknown
            templates = {template for until, template in model.alive.values() if until > now} - {item.unknown.template}
            knowing = [
                each for each in templates if (model.known.get(each) or {}).get(item.unknown.name, -1) >= item.unknown.version
            ]
            hold("what a living worker knows is not unclaimed", not knowing, (item.id, knowing))

    def _somebody_is_awake(self) -> None:
        token = self.picture.length(self.keys.wake)
        work = self.picture.length(self.keys.ready) and not self.model.paused
        if token or not work:
            self.polling = False
        asleep = not token and not any(worker.woken for worker in self.workers)
        hold("work that waits wakes a worker", not work or not asleep or self.polling, "nobody is awake")


def _whose(delivery: Delivery) -> tuple[str, str]:
    return delivery.id, worker_of(delivery)


def worker_of(delivery: Delivery) -> str:
    """Its worker, whose name is in the fence."""
    return str(delivery.fence.split(":")[1])


def _readings(now: Now) -> tuple[int, int, int, int]:
    return int(now), now.wall, now.sure, now.attended


def _text(value: bytes) -> str:
    return value.decode()


def _readable(key: str, picture: Picture, keys: Any) -> dict[str, object]:
    """The content of a key as the model says it."""
    if key in (
        keys.ready,
        keys.suspects,
        keys.leases,
        keys.scheduled,
        keys.dead,
        keys.done,
        keys.cancelled,
        keys.relayed,
        keys.delayed,
        keys.upcoming,
        keys.unclaimed,
        keys.unclaimed_by,
        keys.templates,
    ):
        return {_text(member): score for member, score in picture.zset(key).items()}
    readers: dict[str, Callable[[bytes], object]] = {
        keys.tasks: bytes,
        keys.uniques: bytes.decode,
        keys.claims: bytes.decode,
        keys.joins: lambda _: "there",
        keys.waiting: bytes.decode,
        keys.arrivals: bytes.decode,
        keys.members: bytes.decode,
        keys.runs: bytes.decode,
        keys.owners: _owner,
        keys.unclaimed_as: bytes.decode,
        keys.announced: lambda value: json.loads(value) if value else None,
        keys.hooks: _hook,
        keys.progress: _progress,
        keys.logs: _log,
        keys.history: _history,
        keys.errors: lambda value: json.loads(value)["type"],
        keys.results: lambda value: json.loads(value)["value"],
    }
    if key == keys.schedules:
        return _columns(picture.hash(key))
    read = readers.get(key, int)
    found: dict[str, object] = {}
    for name, value in picture.hash(key).items():
        found[_text(name)] = value
        with contextlib.suppress(ValueError, KeyError):
            found[_text(name)] = read(value)
    return found


def _columns(content: dict[bytes, bytes]) -> dict[str, object]:
    """Those that the model knows."""
    readers: dict[str, Callable[[str], object]] = {
        "moment": int,
        "paused": lambda _: True,
        "last": str,
        "ended": lambda text: text.split()[0],
        "skipped": int,
        "missed": int,
    }
    columns = [(name, name.partition(" ")[0], value.decode()) for name, value in _decoded(content)]
    return {name: readers[kind](value) for name, kind, value in columns if kind in readers}


def _decoded(content: dict[bytes, bytes]) -> Iterable[tuple[str, bytes]]:
    return ((name.decode(), value) for name, value in content.items())


def _pairs(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def name_of(fields: Mapping[bytes, bytes]) -> str:
    """An entry of the outbox as the model calls it."""
    if b"body" in fields:
        return load_entry(fields[b"body"]).key
    if b"dead" in fields:
        hook = json.loads(fields[b"hook"])["message"]["task"] if fields[b"hook"] else ""
        words = (fields[name].decode() for name in (b"dead", b"cause", b"attempt"))
        return f"dead {' '.join(words)} {json.loads(fields[b'failure'])['type']} {hook}"
    return " ".join(fields[name].decode() for name in (b"join", b"at", b"id", b"why"))


def _progress(value: bytes) -> tuple[str, int]:
    fence, _, said = value.decode().partition(" ")
    return fence, int(said)


def _log(value: bytes) -> tuple[str, tuple[int, ...]]:
    head, *lines = value.decode().split("\n")
    return head.partition(" ")[0], tuple(map(int, lines))


def _hook(value: bytes) -> str:
    template, _, step = value.decode().partition(" ")
    return f"{template} {json.loads(step)['message']['task']}"


def _history(value: bytes) -> tuple[tuple[int, str, str, str, int], ...]:
    past = [json.loads(line) for line in value.split(b"\n")]
    return tuple(
        (each["attempt"], each["worker"], each["type"], each.get("cause", ""), len(each.get("handlers", []))) for each in past
    )


def _owner(value: bytes) -> tuple[str, float]:
    fence, _, place = value.decode().partition(" ")
    return fence, float(place)


def _difference(found: dict[str, object], expected: dict[str, object]) -> str:
    differing = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
    return "; ".join(f"{name} is {found.get(name)}, must be {expected.get(name)}" for name in differing)


def fork(world: World) -> "Fork":
    """All of a world that a step may change, to go on from it more than once."""
    workers = [dataclasses.replace(worker, held=list(worker.held)) for worker in world.workers]
    saved = world.save()
    saved.ledger.fences = set(world.ledger.fences)
    return Fork(saved, world.clock.now, world.lived, workers, list(world.former), world.polling, list(world.history))


class Fork(NamedTuple):
    """A world to come back to."""

    saved: Saved
    clock: int
    lived: Lived
    workers: list[Worker]
    former: list[Delivery]
    polling: bool
    history: list[Step]

    def enter(self, world: World) -> None:
        world.clock.now, world.lived = self.clock, self.lived
        world.go_back(self.saved)
        world.ledger.fences = set(world.ledger.fences)  # other ways out of this world are not its history
        world.workers = [dataclasses.replace(worker, held=list(worker.held)) for worker in self.workers]
        world.former, world.polling, world.history = list(self.former), self.polling, list(self.history)
