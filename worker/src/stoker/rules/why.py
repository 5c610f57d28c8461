"""Explains why a task is in its state: reasons from facts, most important first. `queue/reads/why.py` reads the facts."""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from stoker.rules.history import PastFailure
from stoker.rules.states import TaskState

SLOWEST_RATE = 0.01
"""Completions per second below which no ETA is given."""


class Cause(StrEnum):
    """What a task waits for, or its final state."""

    CANCEL_REQUESTED = "cancel_requested"
    PAUSED = "paused"
    NO_WORKERS = "no_workers"
    UNCLAIMED = "unclaimed"
    NOT_DUE = "not_due"
    OVERDUE = "overdue"
    PARKED = "parked"
    RATE_LIMIT = "rate_limit"
    SUSPECT = "suspect"
    TASKS_AHEAD = "tasks_ahead"
    SLOTS_BUSY = "slots_busy"
    NEXT = "next"
    RUNNING = "running"
    LEASE_EXPIRED = "lease_expired"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Reason(msgspec.Struct, frozen=True):
    """One reason why the task is in its state."""

    cause: Cause
    text: str


class WorkerInfo(msgspec.Struct, frozen=True):
    """A live worker as of its last heartbeat. `tasks`: the names that its template has announced; None where it may know any.

    `waiting`: how many of its `busy` runs wait for other tasks of the queue.
    """

    slots: int = 0
    busy: int = 0
    waiting: int = 0
    draining: bool = False
    tasks: frozenset[str] | None = None
    template: str = ""


class Facts(msgspec.Struct, frozen=True):
    """A task and its queue at one moment; times in epoch ms.

    `at` as in TaskStatus. `ahead`: tasks before it in the ready line, None where it is not in it. `back_at`: when the rate limit
    admits the next task, None where it does not hold any back. `rate`: completions per second. `workers`: how many are alive;
    `infos` describe some of them. `holders`: ids of running tasks with its concurrency key, of which at most `most` may run.
    `unclaimed`: since when no living worker has known it.
    """

    id: str
    task: str
    queue: str
    state: TaskState
    now: int
    at: int | None = None
    ahead: int | None = None
    overdue: int = 0
    paused: bool = False
    suspect: bool = False
    back_at: int | None = None
    cancel_at: int | None = None
    rate: float = 0.0
    workers: int = 0
    infos: tuple[WorkerInfo, ...] = ()
    key: str | None = None
    most: int = 0
    parked: bool = False
    unclaimed: int | None = None
    holders: tuple[str, ...] = ()
    worker: str | None = None
    attempts: int = 0
    losses: int = 0
    failure: str | None = None
    history: tuple[PastFailure, ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    """Why a task is in its state. `text` is that of the first reason. `ahead`: tasks before it in the ready line.

    `eta`: estimated seconds until it ends, from the queue's current completion rate; None where no estimate is possible.
    """

    id: str
    task: str
    queue: str
    state: TaskState
    text: str
    reasons: list[Reason]
    ahead: int | None
    eta: float | None
    worker: str | None
    attempts: int
    losses: int
    failure: str | None
    history: list[PastFailure]


def explain(facts: Facts) -> Explanation:
    """The reasons that follow from the facts, most important first."""
    reasons = [Reason(cause, text) for cause, text in _reasons(facts)]
    return Explanation(
        id=facts.id,
        task=facts.task,
        queue=facts.queue,
        state=facts.state,
        text=reasons[0].text,
        reasons=reasons,
        ahead=facts.ahead,
        eta=_eta(facts, {reason.cause for reason in reasons}),
        worker=facts.worker,
        attempts=facts.attempts,
        losses=facts.losses,
        failure=facts.failure,
        history=list(facts.history),
    )


def _reasons(facts: Facts) -> Iterator[tuple[Cause, str]]:
    match facts.state:
        case TaskState.RUNNING:
            yield from _running(facts)
        case TaskState.SUCCEEDED:
            yield Cause.SUCCEEDED, "it has succeeded"
        case TaskState.CANCELLED:
            yield Cause.CANCELLED, "it was cancelled"
        case TaskState.DEAD:
            why = f": {facts.failure}" if facts.failure else ""
            yield Cause.DEAD, f"it waits in the dead letters for a redrive{why}{_handled(facts)}"
        case TaskState.READY | TaskState.SCHEDULED:
            yield from _held_back(facts)
            yield from _ready(facts) if facts.state is TaskState.READY else _not_due(facts)


def _handled(facts: Facts) -> str:
    handlers = facts.history[-1].handlers if facts.history else []
    named = ", ".join(f"{handler.task} {handler.id} in {handler.queue}" for handler in handlers)
    return f"; its death is handled by {named}" if named else ""


def _running(facts: Facts) -> Iterator[tuple[Cause, str]]:
    if facts.cancel_at is not None:
        since = _seconds((facts.now - facts.cancel_at) / 1000)
        yield Cause.CANCEL_REQUESTED, f"its cancellation was requested {since} ago; its worker learns of it with its next heartbeat"
    if facts.at is not None and facts.at <= facts.now:
        yield Cause.LEASE_EXPIRED, f"worker {facts.worker or 'unknown'} has not renewed the lease: another worker will requeue it"
    else:
        yield Cause.RUNNING, f"it runs on worker {facts.worker or 'unknown'}"


def _held_back(facts: Facts) -> Iterator[tuple[Cause, str]]:
    """What holds back all tasks of the queue, or all of this name."""
    if facts.paused:
        yield Cause.PAUSED, f"queue {facts.queue} is paused; resume it with: stoker resume -q {facts.queue}"
    if facts.workers == 0:
        yield Cause.NO_WORKERS, f"queue {facts.queue} has no live worker"
    elif facts.infos and all(info.draining for info in facts.infos) and len(facts.infos) == facts.workers:
        yield Cause.NO_WORKERS, f"every worker of queue {facts.queue} is draining"
    known = _names(facts)
    if facts.unclaimed is not None or (known is not None and facts.task not in known):
        yield Cause.UNCLAIMED, _unclaimed(facts, known)


def _unclaimed(facts: Facts, known: set[str] | None) -> str:
    text = f"no live worker knows a task named {facts.task!r}"
    if facts.unclaimed is not None:
        since = _seconds((facts.now - facts.unclaimed) / 1000)
        text = f"no live worker knew a task named {facts.task!r} {since} ago: it waits for one that does"
    return f"{text}; known tasks: {', '.join(sorted(known)) or 'none'}" if known is not None else text


def _names(facts: Facts) -> set[str] | None:
    """The names of tasks that live workers know; None unless all of them list theirs."""
    names = [info.tasks for info in facts.infos]
    if not names or len(names) < facts.workers:
        return None
    return set().union(*(each for each in names if each is not None)) if None not in names else None


def _not_due(facts: Facts) -> Iterator[tuple[Cause, str]]:
    if facts.at is not None and facts.at > facts.now:
        again = f", to retry after {facts.failure}" if facts.failure else ""
        yield Cause.NOT_DUE, f"it is due in {_seconds((facts.at - facts.now) / 1000)}{again}"
    else:
        others = f", as are {facts.overdue - 1} others" if facts.overdue > 1 else ""
        yield Cause.OVERDUE, f"it is due{others}; a live worker makes it ready within a second or two"


def _ready(facts: Facts) -> Iterator[tuple[Cause, str]]:
    if facts.unclaimed is not None:
        return
    if facts.parked:
        yield Cause.PARKED, _parked(facts)
        return
    if facts.back_at is not None:
        wait = _seconds((facts.back_at - facts.now) / 1000)
        yield Cause.RATE_LIMIT, f"the rate limit of the queue admits the next task in {wait}"
    if facts.suspect:
        lost = f"it was lost with its worker {_times(facts.losses)}"
        yield Cause.SUSPECT, f"{lost}, so it waits for a worker that holds no other suspect, on its last life for an empty one"
    if facts.ahead:
        yield Cause.TASKS_AHEAD, f"{_tasks(facts.ahead)} ahead of it"
    free = sum(max(0, info.slots - info.busy) for info in facts.infos if not info.draining)
    slots = sum(info.slots for info in facts.infos if not info.draining)
    if slots and not free and len(facts.infos) == facts.workers:
        waiting = sum(info.waiting for info in facts.infos if not info.draining)
        held = f"; {waiting} of them with tasks that wait for other tasks of this queue" if waiting else ""
        yield Cause.SLOTS_BUSY, f"all {slots} slots of {_workers(facts.workers)} are busy{held}"
    if not facts.ahead:
        yield Cause.NEXT, "it is next in line"


def _parked(facts: Facts) -> str:
    who = f": {', '.join(facts.holders)}" if facts.holders else ""
    ahead = f"; {_tasks(facts.ahead)} parked ahead of it" if facts.ahead else ""
    return f"{len(facts.holders) or facts.most} of {facts.most} tasks with concurrency key {facts.key!r} are running{who}{ahead}"


_NO_ESTIMATE = {Cause.PAUSED, Cause.NO_WORKERS, Cause.UNCLAIMED, Cause.PARKED}


def _eta(facts: Facts, causes: set[Cause]) -> float | None:
    if facts.state is not TaskState.READY or facts.ahead is None or facts.rate < SLOWEST_RATE or causes & _NO_ESTIMATE:
        return None
    return round((facts.ahead + 1) / facts.rate, 3)


def _seconds(value: float) -> str:
    value = max(0.0, value)
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _tasks(count: int) -> str:
    return "1 task is" if count == 1 else f"{count} tasks are"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
