"""What clients and workers were told. Queues may crash and fail over: this book is kept outside of them."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stoker.queue.keys import Keys
from stoker.queue.records import Delivery
from tests.proof.model_time import GAP
from tests.proof.picture import Picture

SLACK = 100  # ms: the drift of a server's clock
MOST_HANDLERS = 3  # of one death in these histories: its name's, and two of its call


def _new(before: Iterable[bytes], after: Iterable[bytes]) -> set[str]:
    return {name.decode() for name in set(after) - set(before)}


class Broken(AssertionError):
    """A law that did not hold, and how."""

    def __init__(self, law: str, detail: object) -> None:
        super().__init__(f"{law}: {detail}")
        self.law = law


def hold(law: str, holds: object, detail: object = "") -> None:
    """Raise Broken unless it holds."""
    if not holds:
        raise Broken(law, detail)


class Lived(NamedTuple):
    """How much time has really passed, and how often the clock was put elsewhere."""

    ms: int = 0
    steps: int = 0


@dataclass
class Ledger:
    """Acknowledged tasks, recorded outcomes, fences handed out."""

    present: set[str] = field(default_factory=set)  # acknowledged and not removed since
    outcomes: dict[str, int] = field(default_factory=dict)  # the value of the one delivery whose success was accepted
    not_before: dict[str, float] = field(default_factory=dict)  # by the real clock: a task that runs earlier was promoted too soon
    at_last: dict[str, float] = field(default_factory=dict)  # or by the clock without leaps, where it waits out a delay
    renewed: dict[str, Lived] = field(default_factory=dict)  # when the lease of a task was taken or renewed
    untouched: list[str] = field(default_factory=list)  # ready since their enqueue and never handed out: their order is known
    priority: dict[str, int] = field(default_factory=dict)
    joins: dict[str, int] = field(default_factory=dict)  # how many members each has
    arrived: dict[str, set[int]] = field(default_factory=dict)  # members whose success was accepted
    broken: set[str] = field(default_factory=set)  # joins that can never be, whose placeholders are buried
    followed: set[str] = field(default_factory=set)  # joins whose task has come
    moments: set[str] = field(default_factory=set)  # of schedules, whose runs have come
    deaths: dict[str, int] = field(default_factory=dict)  # how often each has died
    handlers: dict[str, list[str]] = field(default_factory=dict)  # dead task -> its handlers that have come
    fences: set[str] = field(default_factory=set)

    def snapshot(self) -> "Ledger":
        """What is forgotten with the queue's last writes is forgotten here. What was seen of fences is not."""
        arrived = {join: set(members) for join, members in self.arrived.items()}
        workflows = dict(self.joins), arrived, set(self.broken), set(self.followed), set(self.moments)
        return Ledger(
            *(set(self.present), dict(self.outcomes), dict(self.not_before), dict(self.at_last), dict(self.renewed)),
            *(list(self.untouched), dict(self.priority)),
            *workflows,
            *(dict(self.deaths), {task_id: list(ids) for task_id, ids in self.handlers.items()}),
            self.fences,
        )

    def acknowledged(self, task_id: str, priority: int, due: float, at_last: float = math.inf) -> None:
        """An enqueue that was new; `due` is 0 for one that is ready."""
        self.at_last[task_id] = at_last
        self.present.add(task_id)
        self.priority[task_id] = priority
        self.not_before[task_id] = due
        if not due:
            self.untouched.append(task_id)

    def another(self, task_id: str) -> None:
        """Somebody has enqueued a task of this id: it is none that had the id before and is gone."""
        self.joins.pop(task_id, None)
        self.moments.discard(task_id)
        self.handlers = {dead: [each for each in ids if each != task_id] for dead, ids in self.handlers.items()}

    def removed(self, ids: Iterable[str]) -> None:
        """By a person, or by age."""
        for task_id in ids:
            self.present.discard(task_id)
            self.outcomes.pop(task_id, None)
            self.touched(task_id)

    def touched(self, *ids: str) -> None:
        self.untouched = [task_id for task_id in self.untouched if task_id not in ids]

    def handed_out(self, taken: Sequence[Delivery]) -> None:
        for delivery in taken:
            hold("a fence is used once", delivery.fence not in self.fences, delivery)
            self.fences.add(delivery.fence)

    def in_order(self, taken: Sequence[Delivery], ready: Iterable[str]) -> None:
        """A fetch; `ready` is what it left in line."""
        priorities = [self.priority[delivery.id] for delivery in taken]
        hold("the more urgent goes first", priorities == sorted(priorities, reverse=True), (taken, priorities))
        left = max((self.priority[task_id] for task_id in ready), default=None)
        hold("the more urgent goes first", not taken or left is None or left <= priorities[-1], (taken, left))
        for priority in set(priorities):
            fresh = [delivery.id for delivery in taken if delivery.id in self.untouched and self.priority[delivery.id] == priority]
            line = [task_id for task_id in self.untouched if self.priority[task_id] == priority]
            hold("first come, first served", fresh == line[: len(fresh)], (fresh, line))
        self.touched(*(delivery.id for delivery in taken))

    def succeeded(self, task_id: str, value: int) -> None:
        hold("one outcome is recorded", task_id not in self.outcomes, (task_id, value))
        self.outcomes[task_id] = value

    def check_workflows(self, was: Picture, now: Picture, joins: str, tasks: str) -> None:
        """A join ends when all its members have succeeded, or is broken; what follows it comes once, and so does each moment."""
        for join in _new(now.hash(joins), was.hash(joins)):
            complete = len(self.arrived.get(join, ())) == self.joins[join]
            hold("a join ends when all have succeeded, or one never can", complete or join in self.broken, join)
        for task_id in _new(was.hash(tasks), now.hash(tasks)):
            if task_id in self.joins and task_id not in self.broken:
                hold(
                    "what follows a join comes when all have succeeded",
                    len(self.arrived.get(task_id, ())) == self.joins[task_id],
                    task_id,
                )
                hold("what follows a join comes once", task_id not in self.followed, task_id)
                self.followed.add(task_id)
            if task_id.startswith("cron-"):
                hold("a moment comes once", task_id not in self.moments, task_id)
                self.moments.add(task_id)

    def died(self, was: Picture, now: Picture, keys: Keys) -> None:
        """Called after every call: within a step one may die, be redriven, and die again."""
        for task_id in _new(was.zset(keys.dead), now.zset(keys.dead)):
            self.deaths[task_id] = self.deaths.get(task_id, 0) + 1

    def check_handlers(self, was: Picture, now: Picture, keys: Keys) -> None:
        """A handler comes once for each death, and never for the death of a handler."""
        envelopes = now.hash(keys.tasks)
        for task_id in _new(was.hash(keys.tasks), envelopes):
            if (dead := json.loads(envelopes[task_id.encode()]).get("handles")) is None:
                continue
            came = self.handlers.setdefault(dead, [])
            hold("a handler comes once", task_id not in came, (task_id, dead))
            came.append(task_id)
            hold("a death has its handlers once", len(came) <= MOST_HANDLERS * self.deaths.get(dead, 0), (dead, came))
            handlers = {each for ids in self.handlers.values() for each in ids}
            hold("no handler has one", dead not in handlers, (dead, task_id))

    def check(self, tasks: set[str], outcomes: dict[str, int], on_the_way: Iterable[str], picture: Picture) -> None:
        """Hold the queue to what it has said."""
        hold("nothing acknowledged disappears", self.present <= tasks, self.present - tasks)
        hold("nothing appears that nobody enqueued", tasks <= self.present, tasks - self.present)
        hold("one outcome is recorded", outcomes == self.outcomes, (outcomes, self.outcomes))
        now, under_way = picture.now, set(on_the_way)
        if not under_way:
            return
        early = {task for task in under_way if self.not_before[task] > now.wall and self.at_last.get(task, math.inf) > now.attended}
        hold("nothing runs early", not early, {task_id: self.not_before[task_id] - now.wall for task_id in early})
        self.not_before |= dict.fromkeys(under_way, 0.0)  # the clock may be put back later

    def lost(self, ids: Iterable[str], lived: Lived, lease: int) -> None:
        """The reaper has taken these. A leap of the clock counts for a second, and for the time that passes after it again."""
        for task_id in ids:
            ms, steps = lived.ms - self.renewed[task_id].ms, lived.steps - self.renewed[task_id].steps
            hold("no step of the clock ends a lease", 2 * (ms + GAP * steps) + SLACK >= lease, (task_id, ms, steps))
