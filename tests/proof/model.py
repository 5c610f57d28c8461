"""What a queue must hold after each move, said a second time and in plain Python.

A feature that adds a place or a column adds it here, in `Item` and `expected`; what the model does not know is not compared
(`Line.check` still holds it to the rule that a task is in one place).
"""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from stoker.queue.keys import Keys
from stoker.rules.identity import Holder
from stoker.rules.losses import LossCause
from stoker.rules.message import Message, encode
from tests.proof import model_joins, model_schedules
from tests.proof.model_joins import Waiting
from tests.proof.model_schedules import Schedule
from tests.proof.model_time import Now

EPOCH_MS = 1_704_067_200_000
LEVEL = 2.0**46
TICKS_PER_MS = 64
MEMORY = 600_000
SWEPT_AT_ONCE = 200
REMEMBERED, LOGGED = 5, 50
US = "\x1f"
LONGEST_LOOK, SHORTEST_LOOK, GRACE, LEFT_OVER = 800, 10, 700, 1000
CLEAR = 2000


Hooks = dict[str, str]
"""Task name ("": any other) -> the task that handles its death."""
Names = dict[str, int] | None
"""What workers know: name -> version. None: any, perhaps."""


class Rules(NamedTuple):
    """How a queue was set up; times in ms."""

    lease: int = 30_000
    max_lost: int = 2
    keep: int = 3600_000
    keep_count: int = 1000
    keep_dead: int = 7200_000
    keep_dead_count: int = 1000
    keep_unclaimed: int = 7200_000


class Wish(NamedTuple):
    """One entry of an enqueue."""

    id: str
    envelope: bytes
    priority: int = 0
    delay: int = 0
    due: int = 0
    claim: tuple[str, str, int] | None = None  # s(tarted) or d(one), digest, how long


class End(NamedTuple):
    """One settlement."""

    id: str
    fence: str
    verb: str
    delay: int
    body: str
    busy: int


class Taken(NamedTuple):
    """What a worker is told of a task it takes."""

    id: str
    failures: int
    losses: int
    waited: int


class Unknown(NamedTuple):
    """A task as a worker met it that does not know it."""

    version: int
    template: str
    name: str


@dataclass(slots=True)
class Item:
    """One task. `score` is its score in the place where it is, `origin` the place in line it was taken from."""

    id: str
    envelope: bytes
    priority: int
    place: str
    score: float
    failures: int = 0
    losses: int = 0
    fence: str = ""
    origin: float = 0.0
    cancel_at: int | None = None
    failure: str | None = None
    result: str | None = None
    claim: tuple[str, str] | None = None  # s or d, digest
    progress: tuple[str, int] | None = None  # fence, what was said
    log: tuple[int, ...] = ()
    logged_by: str = ""
    history: tuple[tuple[int, str, str, str, int], ...] = ()  # attempt, worker, type of failure, cause of a loss, handlers
    member: tuple[str, int] | None = None  # of which join, its number
    unknown: Unknown | None = None  # where it is unclaimed

    @property
    def level(self) -> int:
        return -self.priority

    def has_expired(self, now: Now) -> bool:
        """Whether it waits and can run no more."""
        return self.place != "leases" and json.loads(self.envelope).get("expires", math.inf) <= now.wall

    def remember(self, worker: str, failure: str, handlers: int = 0) -> None:
        """After it was counted."""
        self._remember((self.failures + self.losses, worker, failure, "", handlers))

    def remember_loss(self, attempt: int, worker: str, cause: LossCause | None, handlers: int) -> None:
        self._remember((attempt, worker, "WorkerLost", str(cause or ""), handlers))

    def _remember(self, entry: tuple[int, str, str, str, int]) -> None:
        self.history = (*self.history, entry)[-REMEMBERED:]


@dataclass(slots=True)
class Model:
    """One queue. Every method is one script: it returns what the script must answer. `now` is what it reads of time."""

    rules: Rules
    items: dict[str, Item] = field(default_factory=dict)
    arrival: float = 0
    paused: bool = False
    claims: dict[str, tuple[int, str]] = field(default_factory=dict)  # digest -> until when, who
    delays: dict[str, int] = field(default_factory=dict)  # id, US, due -> when it ends at last, on the clock without leaps
    fences: int = 0
    holder: Holder | None = None  # the TaskQueue that claims the queue
    clearer: str = ""
    clear_until: int = 0  # until when the others leave a task on its last life to it
    minder: str = ""
    mind_until: int = 0  # when the minder counts as gone
    counters: Counter[str] = field(default_factory=Counter)
    outbox: list[str] = field(default_factory=list)  # keys of entries, and words of members that are gone for good
    joins: dict[str, Waiting] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)  # name of a schedule -> its last run, until it was seen to end
    alive: dict[str, tuple[int, str]] = field(default_factory=dict)  # worker -> until when, its template
    known: dict[str, Names] = field(default_factory=dict)  # template -> what its workers know
    hooks: dict[str, tuple[str, str]] = field(default_factory=dict)  # task -> template that said so, what handles its death
    seen: dict[str, int] = field(default_factory=dict)  # template -> when its workers last looked at what is unclaimed
    relayed: dict[str, int] = field(default_factory=dict)  # key of an item -> until when it is remembered

    def copy(self) -> "Model":
        items = {task_id: dataclasses.replace(item) for task_id, item in self.items.items()}
        copies = {
            name: getattr(self, name).copy()
            for name in ("claims", "counters", "outbox", "relayed", "runs", "delays", "alive", "known", "seen", "hooks")
        }
        joins = {join_id: join.copy() for join_id, join in self.joins.items()}
        return dataclasses.replace(self, items=items, joins=joins, schedules=model_schedules.copies(self.schedules), **copies)

    wish = staticmethod(Wish)

    def at(self, *places: str) -> list[Item]:
        """Those that are there, in order."""
        return sorted((item for item in self.items.values() if item.place in places), key=lambda item: (item.score, item.id))

    def enqueue(self, wishes: Iterable[Wish], now: Now) -> list[str]:
        tick = max((now - EPOCH_MS) * TICKS_PER_MS, self.arrival)
        answers: list[str] = []
        for wish in wishes:
            due = now.wall + wish.delay if wish.delay > 0 else wish.due
            if known := self.items.get(wish.id):
                answers.append("duplicate" if _work(known.envelope) == _work(wish.envelope) else "conflict")
                continue
            if wish.claim and (holder := self._holder(wish.claim[1], now)):
                answers.append(f"held by {holder}")
                self.counters["deduplicated"] += 1
                continue
            item = self.items[wish.id] = Item(wish.id, wish.envelope, wish.priority, "scheduled", due)
            if wish.delay > 0:
                self._delay(item, wish.delay, now)
            if due <= now.wall:
                tick += 1
                item.place, item.score = "ready", item.level * LEVEL + tick
            if wish.claim:
                mode, digest, ttl = wish.claim
                item.claim = mode, digest
                self.claims[digest] = max(due, now.wall) + ttl, item.id
            answers.append(item.place)
            self.counters["enqueued"] += 1
            self.arrival = tick
        return answers

    def _holder(self, digest: str, now: Now) -> str | None:
        """Who claims this, while its time lasts. A stale holder forgets it."""
        expires, holder = self.claims.get(digest, (0, ""))
        item = self.items.get(holder)
        if item and item.claim and expires > now.wall and not item.has_expired(now):
            return holder
        if item:
            item.claim = None
        return None

    def _free(self, item: Item) -> None:
        if item.claim and self.claims.get(item.claim[1], (0, ""))[1] == item.id:
            del self.claims[item.claim[1]]
        item.claim = None

    def promote(self, now: Now) -> int:
        due = [item for item in self.at("scheduled") if item.score <= now.wall]
        for item in due:
            self.delays.pop(f"{item.id}{US}{item.score:.0f}", None)
            self._line_up(item, place_at(item.level, item.score + now - now.wall))
        passed = [member for member, end in self.delays.items() if end <= now.attended]
        over = [item for member in passed if (item := self._scheduled_as(member))]
        for item in over:
            self._line_up(item, place_at(item.level, now))
        for member in passed:
            del self.delays[member]
        return len(due) + len(over)

    def _scheduled_as(self, member: str) -> Item | None:
        task_id, due = member.split(US)
        item = self.items.get(task_id)
        return item if item and item.place == "scheduled" and item.score == int(due) else None

    def _delay(self, item: Item, delay: int, now: Now) -> None:
        item.place, item.score = "scheduled", now.wall + delay
        self.delays[f"{item.id}{US}{item.score:.0f}"] = now.attended + delay

    def take_over(self, worker: str, now: Now, due: float | None) -> int | None:
        """Whether this worker is to do the chores, for a call at `now` that knows when the first task falls due: in how many ms."""
        look = now
        if now < self.mind_until:
            if due is None or due + now - now.wall >= self.mind_until - GRACE:
                return None
            look = Now(max(now, int(due + now - now.wall)))
        self.minder, self.mind_until = worker, look + GRACE
        return look - now

    def stop_minding(self, worker: str) -> None:
        """This worker is known to be gone."""
        if self.minder == worker:
            self.minder, self.mind_until = "", 0
        if self.clearer == worker:
            self.clearer, self.clear_until = "", 0

    def claim_queue(self, holder: Holder, instead_of: Holder | None) -> Holder:
        """Returns who claims the queue from now on."""
        if self.holder in (None, instead_of):
            self.holder = holder
        assert self.holder
        return self.holder

    def release_queue(self, holder: Holder | None) -> Holder | None:
        """Returns whose claim was released: with None whoever's it is."""
        if holder not in (None, self.holder):
            return None
        released, self.holder = self.holder, None
        return released

    def first_due(self, now: Now) -> float | None:
        coming = [item.score for item in self.at("scheduled")]
        return min([*coming, *(end - now.attended + now.wall for end in self.delays.values())]) if coming else None

    def fetch(self, room: int, now: Now, worker: str, holds: int) -> tuple[list[Taken], bool]:
        """What is taken, and whether the worker is to clear. `holds`: 0 nothing, 2 tasks, 3 a suspect."""
        if self.paused:
            return [], False
        if (due := self.first_due(now)) is not None and due <= now.wall:
            self.promote(now)
        line, clear = self._next_in_line(room, now, worker, holds)
        taken = [Taken(item.id, item.failures, item.losses, max(0, now - arrived(item.score))) for item in line]
        for item in line:
            item.origin, item.place, item.score = item.score, "leases", now + self.rules.lease
            if item.claim and item.claim[0] == "s":
                self._free(item)
        self.fences += len(line)
        return taken, clear

    def _next_in_line(self, room: int, now: int, worker: str, holds: int) -> tuple[list[Item], bool]:
        line: list[Item] = []
        while len(line) < room:
            suspect = None if holds == 3 or any(item.losses >= 2 for item in line) else next(iter(self.at("suspects")), None)
            ready = [item for item in self.at("ready") if item not in line]
            ahead = [item for item in ready if suspect and item.score < suspect.score]
            most = room - len(line)
            if suspect and len(ahead) >= most:
                suspect = None
            if suspect and self.on_last_life(suspect):
                if not line and not ahead and holds == 0:
                    self._may_clear(worker, now, now + self.rules.lease)
                    return [suspect], False
                if self._may_clear(worker, now, now + CLEAR):
                    return [*line, *self._harmless(ahead)], True
                suspect = None
            found = sorted([*ready[: most - (suspect is not None)], *([suspect] if suspect else [])], key=lambda item: item.score)
            taken = self._harmless(found)
            line += taken
            if len(taken) == len(found):
                break
        return line, False

    def on_last_life(self, item: Item) -> bool:
        return 0 < item.losses >= self.rules.max_lost - 1

    def _harmless(self, found: list[Item]) -> list[Item]:
        """Those that may run beside others; the rest is set apart."""
        for item in found:
            if self.on_last_life(item):
                item.place = "suspects"
        return [item for item in found if not self.on_last_life(item)]

    def _may_clear(self, worker: str, now: int, until: int) -> bool:
        if self.clearer not in ("", worker) and self.clear_until > now:
            return False
        self.clearer, self.clear_until = worker, until
        return True

    def own(self, task_id: str, fence: str) -> None:
        """The fence that a fetch has handed out."""
        self.items[task_id].fence = fence

    def owned(self, task_id: str, fence: str) -> bool:
        item = self.items.get(task_id)
        return item is not None and item.place == "leases" and item.fence == fence

    def heartbeat(self, worker: str, template: str, held: Iterable[tuple[str, str]], now: Now) -> tuple[set[str], set[str], bool]:
        """For pairs of id and fence. Returns the fences that are lost, those to be cancelled, and whether it was dead before."""
        fresh = self.alive.get(worker, (0, ""))[0] <= now.sure
        self.alive[worker] = now + self.rules.lease, template
        lost: set[str] = set()
        cancelled: set[str] = set()
        for task_id, fence in held:
            if not self.owned(task_id, fence):
                lost.add(fence)
                continue
            self.items[task_id].score = now + self.rules.lease
            if self.items[task_id].cancel_at is not None:
                cancelled.add(fence)
        return lost, cancelled, fresh

    def handle_death(self, item: Item, cause: str, attempt: int, failure: str) -> int:
        """What its name or its call has for this is on its way; a handler has nothing. Returns how many handlers."""
        fields = json.loads(item.envelope)
        _, hook = self.hooks.get(fields["task"]) or self.hooks.get("") or ("", "")
        linked = len(fields.get("onward", {}).get("on_failure", []))
        if "handles" in fields or not (hook or linked):
            return 0
        self.outbox.append(f"dead {item.id} {cause} {attempt} {failure} {hook}")
        return linked + bool(hook)

    def set_hooks(self, template: str, names: Names, hooks: Hooks) -> None:
        """The newest announcement decides for what it knows."""
        stale = [name for name, (by, _) in self.hooks.items() if name not in hooks and (by == template or name in (names or {}))]
        for name in stale:
            del self.hooks[name]
        self.hooks |= {name: (template, handler) for name, handler in hooks.items()}

    def announce(self, template: str, names: Names, now: Now, hooks: Hooks) -> int:
        """What its workers know is ready again at its old place; they have seen the rest. Returns how many are ready again."""
        self.known[template], self.seen[template] = names, now
        self.set_hooks(template, names, hooks)
        released = [item for item in self.at("unclaimed") if item.unknown and _knows(names, item.unknown)]
        for item in released:
            item.unknown = None
            self._line_up(item, item.origin)
        return len(released)

    def known_elsewhere(self, unknown: Unknown, now: Now) -> bool:
        """Whether a living worker of another template knows it, or may: some have announced nothing."""
        templates = {template for until, template in self.alive.values() if until > now.sure} - {unknown.template}
        return any(_knows(self.known.get(template), unknown) for template in templates)

    def unseen(self, template: str) -> int:
        return sum(item.score > self.seen.get(template, 0) for item in self.at("unclaimed"))

    def tell(self, news: Iterable[tuple[str, str, int]]) -> list[bool]:
        """Of each id, fence, and the number that it says and logs."""
        accepted = []
        for task_id, fence, number in news:
            accepted.append(self.owned(task_id, fence))
            if accepted[-1]:
                item = self.items[task_id]
                item.progress, item.log = (fence, number), (*item.log, number)[-LOGGED:]
                item.logged_by = fence
            else:
                self.counters["stale_settles"] += 1
        return accepted

    def settle(self, ends: Iterable[End], now: Now) -> list[bool]:
        accepted: list[bool] = []
        for end in ends:
            accepted.append(self.owned(end.id, end.fence))
            if accepted[-1]:
                self._end(self.items[end.id], end, now)
            else:
                self.counters["stale_settles"] += 1
        return accepted

    def _end(self, item: Item, end: End, now: Now) -> None:
        verb = self._verb(item, end, now)
        self._count(verb, end.busy)
        item.progress = None
        worker, item.fence, item.cancel_at = worker_of(item.fence), "", None
        self._keep_or_forget(item, verb, end, worker)
        if verb == "succeed":
            item.member = None
        match verb:
            case "succeed" if self.rules.keep == 0:
                del self.items[item.id]
            case "succeed":
                item.place, item.score, item.result = "done", now.wall + self.rules.keep, end.body
            case "cancel":
                item.place, item.score = "cancelled", now.wall
                self._part(item, "cancelled")
            case "bury":
                item.place, item.score = "dead", now.wall
            case "unclaim":
                item.place, item.score, item.unknown = "unclaimed", now, _unknown(end.body)
                if item.unknown.template in self.seen:
                    self.seen[item.unknown.template] = now
            case "release":
                self._line_up(item, item.origin)
            case _ if end.delay > 0:
                self._delay(item, end.delay, now)
            case _:
                self._line_up(item, place_at(item.level, now))

    def _verb(self, item: Item, end: End, now: Now) -> str:
        """What becomes of it really."""
        if item.cancel_at is not None and end.verb not in ("succeed", "bury"):
            return "cancel"
        if end.verb == "unclaim" and self.known_elsewhere(_unknown(end.body), now):
            return "snooze"
        return end.verb

    def _keep_or_forget(self, item: Item, verb: str, end: End, worker: str) -> None:
        if verb in ("succeed", "bury", "cancel"):
            self._free(item)
        if verb in ("succeed", "cancel"):
            item.failures, item.losses, item.failure = 0, 0, None
        if verb in ("retry", "bury"):
            item.failures, item.failure = item.failures + 1, end.body
            cause = "fatal" if end.delay else "failed"
            handlers = self.handle_death(item, cause, item.failures + item.losses, end.body) if verb == "bury" else 0
            item.remember(worker, end.body, handlers)

    def _count(self, verb: str, busy: int) -> None:
        counted = {"succeed": "succeeded", "retry": "retried", "bury": "buried", "release": "released", "snooze": "postponed"}
        counted["unclaim"] = "unclaimed"
        self.counters[counted.get(verb, "stopped")] += 1
        self.counters["failed"] += verb in ("retry", "bury")
        self.counters["busy_ms"] += busy

    def reap(self, now: Now, failure: str, worker: str = "", cause: LossCause | None = None) -> tuple[int, int]:
        """Those whose lease has ended, or those of one worker. Returns how many were given back, and how many buried."""
        given_back = buried = 0
        self.alive.pop(worker, None)
        lost = [item for item in self.at("leases") if (worker_of(item.fence) == worker if worker else item.score <= now.sure)]
        for item in lost:
            self.counters["lost"] += 1
            holder, item.fence = worker_of(item.fence), ""
            if item.cancel_at is not None:
                self._free(item)
                item.place, item.score, item.cancel_at = "cancelled", now.wall, None
                item.failures, item.losses, item.failure = 0, 0, None
                self._part(item, "cancelled")
                self.counters["stopped"] += 1
                continue
            attempt = item.failures + item.losses + 1
            item.losses += not (cause and cause.innocent)
            too_often = item.losses >= self.rules.max_lost and not (cause and cause.innocent)
            handlers = self.handle_death(item, "lost", attempt, failure) if too_often else 0
            item.remember_loss(attempt, holder, cause, handlers)
            if too_often:
                self._free(item)
                item.place, item.score, item.failure = "dead", now.wall, failure
                self.counters["buried"] += 1
                buried += 1
            else:
                self._line_up(item, item.origin)
                given_back += 1
        return given_back, buried

    def cancel(self, task_id: str, now: Now) -> str:
        item = self.items.get(task_id)
        match item.place if item else "":
            case "ready" | "suspects" | "scheduled" | "unclaimed":
                assert item
                self._free(item)
                item.place, item.score = "cancelled", now.wall
                item.failures, item.losses, item.failure, item.unknown = 0, 0, None, None
                self._part(item, "cancelled")
                self.counters["stopped"] += 1
                return "cancelled"
            case "leases":
                assert item
                item.cancel_at = now.wall
                return "requested"
            case "cancelled":
                return "cancelled"
            case "":
                return "unknown"
        return "over"

    def remember(self, keys: list[str], now: Now) -> list[bool]:
        """Items that are relayed here. Returns which of them were known; some that are long past are forgotten."""
        known = [key in self.relayed for key in keys]
        self.relayed |= {key: now + MEMORY for key, old in zip(keys, known, strict=True) if key and not old}
        self._forget_relayed(now, 2 * len(keys))
        return known

    def _forget_relayed(self, now: Now, most: int) -> None:
        past = sorted((until, key) for key, until in self.relayed.items() if until <= now.sure)
        for _, key in past[:most]:
            del self.relayed[key]

    def redrive(self, ids: Iterable[str], now: Now) -> list[str]:
        dead = [task_id for task_id in ids if task_id in self.items and self.items[task_id].place == "dead"]
        for task_id in dead:
            item = self.items[task_id]
            item.failures, item.losses = 0, 0
            self._line_up(item, place_at(item.level, now))
        self.counters["redriven"] += len(dead)
        return dead

    def discard(self, ids: Iterable[str]) -> list[str]:
        return self._remove([item for task_id in ids if (item := self.items.get(task_id)) and item.place == "dead"], "discarded")

    def purge(self, *places: str) -> list[str]:
        return self._remove(self.at(*places), "purged")

    def sweep(self, now: Now) -> list[str]:
        rules = self.rules
        self._forget_relayed(now, SWEPT_AT_ONCE)
        old = self._past("done", now.wall, rules.keep_count) + self._past("cancelled", now.wall - rules.keep, rules.keep_count)
        forgotten = self._remove(old + self._past("dead", now.wall - rules.keep_dead, rules.keep_dead_count), "forgotten")
        self._bury_unclaimed(now)
        return forgotten

    def _bury_unclaimed(self, now: Now) -> None:
        for item in self.at("unclaimed"):
            if item.score <= now - self.rules.keep_unclaimed:
                self._free(item)
                item.place, item.score, item.failure, item.unknown = "dead", now.wall, "UnknownTask", None
                attempt = item.failures + item.losses
                item.remember("", "UnknownTask", self.handle_death(item, "unclaimed", attempt, "UnknownTask"))
                self.counters["buried"] += 1

    def _past(self, place: str, before: int, count: int) -> list[Item]:
        there = self.at(place)
        return there[: len(there) - count] if len(there) > count else [item for item in there if item.score <= before]

    def _remove(self, items: list[Item], why: str) -> list[str]:
        for item in items:
            self._free(item)
            self._part(item, why)
            del self.items[item.id]
        return [item.id for item in items]

    def _part(self, item: Item, why: str) -> None:
        """It will never succeed: its join is told through the outbox."""
        if item.member:
            self.outbox.append(f"{item.member[0]} {item.member[1]} {item.id} {why}")
        item.member = None

    def bury_placeholder(self, placeholder: Message, member: tuple[str, int] | None, now: Now) -> None:
        """In the place of what was to follow a join that can never be."""
        self.items[placeholder.id] = Item(
            placeholder.id, encode(placeholder), placeholder.priority, "dead", now.wall, failure="GroupBroken", member=member
        )
        self.counters["buried"] += 1

    def _line_up(self, item: Item, place: float) -> None:
        item.place, item.score = "suspects" if item.losses >= 2 else "ready", place

    def expected(self, keys: Keys) -> dict[str, dict[str, object]]:
        """The content of every key that the model knows."""
        content: dict[str, dict[str, object]] = {
            getattr(keys, place): {item.id: item.score for item in self.items.values() if item.place == place}
            for place in ("ready", "suspects", "leases", "scheduled", "dead", "done", "cancelled", "unclaimed")
        }
        items = self.items.values()
        content[keys.relayed] = dict(self.relayed)
        content[keys.delayed] = dict(self.delays)
        content[keys.tasks] = {item.id: item.envelope for item in items}
        content[keys.owners] = {item.id: (item.fence, item.origin) for item in items if item.place == "leases"}
        content[keys.attempts] = {item.id: item.failures for item in items if item.failures}
        content[keys.lost] = {item.id: item.losses for item in items if item.losses}
        content[keys.levels] = {item.id: item.level for item in items if item.level and item.place in ("scheduled", "dead")}
        content[keys.errors] = {item.id: item.failure for item in items if item.failure is not None}
        content[keys.progress] = {item.id: item.progress for item in items if item.progress}
        content[keys.logs] = {item.id: (item.logged_by, item.log) for item in items if item.log}
        content[keys.history] = {item.id: item.history for item in items if item.history}
        content[keys.results] = {item.id: int(item.result) for item in items if item.result is not None}
        content[keys.uniques] = {digest: f"{expires} {holder}" for digest, (expires, holder) in self.claims.items()}
        content[keys.claims] = {item.id: " ".join(item.claim) for item in items if item.claim}
        aside = [(item, item.unknown) for item in items if item.unknown]
        content[keys.unclaimed_as] = {item.id: f"{item.origin:.0f} {' '.join(map(str, what))}" for item, what in aside}
        content[keys.unclaimed_by] = {f"{what.name}\x1f{what.version:010}\x1f{item.id}": 0 for item, what in aside}
        content[keys.templates] = dict(self.seen)
        content[keys.announced] = dict(self.known)
        content[keys.hooks] = {name: f"{template} {handler}" for name, (template, handler) in self.hooks.items()}
        content[keys.cancels] = {item.id: item.cancel_at for item in items if item.cancel_at is not None}
        return content | model_joins.expected(self, keys) | model_schedules.expected(self, keys)


def _unknown(body: str) -> Unknown:
    version, template, name = body.split(" ", 2)
    return Unknown(int(version), template, name)


def _knows(names: Names, unknown: Unknown) -> bool:
    return names is None or names.get(unknown.name, -1) >= unknown.version


def place_at(level: float, ms: float) -> float:
    return level * LEVEL + (ms - EPOCH_MS) * TICKS_PER_MS


def _work(envelope: bytes) -> tuple[object, object]:
    """What makes two tasks the same."""
    fields = json.loads(envelope)
    return fields["task"], fields["payload"]


def worker_of(fence: str) -> str:
    return fence.partition(":")[2].partition(":")[0]


def arrived(place: float) -> int:
    return int(EPOCH_MS + (place % LEVEL) // TICKS_PER_MS)
