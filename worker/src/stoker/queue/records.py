"""The values that the queue returns: receipts, deliveries, turns, heartbeat replies, statistics, tasks."""

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import msgspec
from msgspec import Struct

from stoker.errors import Conflict
from stoker.queue.settlements import Settlement
from stoker.rules.history import LogLine, PastFailure, Progress
from stoker.rules.message import Success
from stoker.rules.settle import Failure
from stoker.rules.states import TaskState


class Receipt(Struct, frozen=True, gc=False):
    """What became of an enqueue. `duplicate` where the same task was there already, or another (`id`) holds its claim."""

    id: str
    state: TaskState | None
    duplicate: bool = False


Answer = Receipt | Conflict
"""What became of one enqueue among others: a Conflict is returned in its place, since the others have been added."""


def receipts(answers: Iterable[Answer]) -> list[Receipt]:
    """The receipts. Raises the first Conflict among them."""
    found: list[Receipt] = []
    for answer in answers:
        if isinstance(answer, Conflict):
            raise answer
        found.append(answer)
    return found


class Holds(IntEnum):
    """What a worker holds when it fetches, as `fetch.lua` reads it."""

    NOTHING = 0  # and no other fetch is in flight: it may get a task on its last life
    PERHAPS = 1  # nothing, but another fetch may bring some
    TASKS = 2
    SUSPECT = 3  # it gets no second one


class Delivery(Struct, frozen=True, gc=False):
    """A leased task. Every write about it carries `fence`. `waited`: seconds since it became ready. `taken`: when it was leased, by
    Redis' clock, epoch ms. `last_life`: its next loss would bury it, so it runs with nothing beside it.
    """

    id: str
    fence: str
    envelope: bytes
    failures: int
    losses: int
    waited: float
    taken: int = 0
    last_life: bool = False

    @property
    def attempt(self) -> int:
        """1 for the first run; lost deliveries count as runs."""
        return self.failures + self.losses + 1


class Turn(NamedTuple):
    """A worker's round trip: settlements refused, tasks fetched, and seconds until the rate limit allows more (None: it does, or
    another worker watches it).

    `relay`: an entry may have been added to the outbox. `mind_in`: seconds until this worker is to look for chores; None: another
    one does. `clear`: a task on its last life is next, so take no more until nothing is held.
    """

    refused: list[Settlement]
    deliveries: list[Delivery]
    paused: bool
    back_in: float | None
    relay: bool = False
    mind_in: float | None = None
    clear: bool = False


class Pulse(NamedTuple):
    """The reply to a heartbeat: whether the queue is paused, fences that have lost their lease, fences to cancel.

    `announce`: the worker did not count as alive before, so it has to announce its tasks. `mind_in`: as in `Turn`.
    """

    paused: bool
    lost: list[str]
    cancelled: list[str]
    announce: bool = False
    mind_in: float | None = None


class DueChores(NamedTuple):
    """What the minder finds: names of the chores that are due, and seconds until it is to look again."""

    names: frozenset[str]
    next_in: float


class Totals(msgspec.Struct, frozen=True):
    """What has happened in a queue since it began: monotonic counters. A task counts once a run, or once an act.

    `failed` counts runs, of which some were `retried`; `dead` includes tasks whose workers were lost too often. `lost`: deliveries
    whose worker went away. `busy_ms`: run time of all workers together. `unclaimed`: tasks set aside.
    """

    enqueued: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    snoozed: int = 0
    released: int = 0
    lost: int = 0
    redriven: int = 0
    mended: int = 0
    deduplicated: int = 0
    stale_settles: int = 0
    invariant_violations: int = 0
    busy_ms: int = 0
    unclaimed: int = 0


class QueueStats(msgspec.Struct, frozen=True):
    """One queue at one moment: its tasks by state, and `totals` since it began.

    Times in seconds, `completion_rate` in tasks a second over about 5 s.

    `ready` counts what is still in the inbox as well. `parked` tasks are ready too, but their concurrency key is full; `unclaimed`
    ones are, but no living worker knows their name: both are counted apart. `succeeded` and `cancelled` count the tasks that are
    still kept (retention); `totals` counts all there were.
    `due`: scheduled tasks and runs of schedules that fall due within the horizon asked for (0 = overdue already).
    `throttled`: the rate limit holds back tasks that workers have slots for. `schedules`: how many wait for their next run, the
    first of them in `next_run` seconds (below 0: overdue).
    `unseen`: by template (rules/announcement.py), how many tasks became unclaimed since its workers last looked at all of them.
    """

    queue: str
    ready: int
    running: int
    scheduled: int
    dead: int
    succeeded: int
    cancelled: int
    due: int
    oldest_wait: float
    workers: int
    paused: bool
    completion_rate: float
    throttled: bool = False
    parked: int = 0
    schedules: int = 0
    next_run: float | None = None
    totals: Totals = Totals()
    unclaimed: int = 0
    unseen: dict[str, int] = {}

    def unseen_by(self, template: str) -> int:
        """Unclaimed tasks that workers of this template may know: they have not seen them yet."""
        return self.unseen.get(template, self.unclaimed)

    @property
    def enqueued(self) -> int:
        """Tasks enqueued since the queue's first use."""
        return self.totals.enqueued

    @property
    def runs(self) -> int:
        """Runs that have ended since the queue's first use."""
        ended = self.totals
        return ended.succeeded + ended.failed + ended.released + ended.snoozed

    @property
    def service_time(self) -> float:
        """Average seconds of a run since the queue's first use; 0 before the first has ended."""
        return self.totals.busy_ms / 1000 / self.runs if self.runs else 0.0


class TaskStatus(msgspec.Struct, frozen=True):
    """One task. `at` (epoch ms; None while ready): lease end, due time, when it was buried or cancelled, or result expiry.

    `parked` is the full concurrency key that a ready task waits for; `unclaimed`: since when (epoch ms) no living worker has known
    a ready task. `history` are its last failures, oldest first. `progress` is
    that of its current run. `log` are the last lines of all its runs; empty in lists.
    """

    id: str
    task: str
    queue: str
    state: TaskState
    priority: int
    created: int
    attempts: int
    losses: int
    payload: msgspec.Raw
    at: int | None = None
    worker: str | None = None
    failure: Failure | None = None
    result: Success | None = None
    parked: str | None = None
    headers: dict[str, str] = {}
    expires: int | None = None
    history: list[PastFailure] = []
    progress: Progress | None = None
    log: list[LogLine] = []
    unclaimed: int | None = None

    @property
    def expired(self) -> bool:
        """Whether it was cancelled because no further run had begun by `expires` (epoch ms)."""
        return self.state is TaskState.CANCELLED and self.expires is not None and self.at is not None and self.at >= self.expires


class Page(NamedTuple):
    """A page of tasks, and the cursor of the next page (None: the last page)."""

    tasks: list[TaskStatus]
    cursor: int | None
