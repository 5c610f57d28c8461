"""Why a task has not ended yet: from the facts to words, the weightiest first. `queue/reads/why.py` finds the facts."""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from stoker.rules.history import PastFailure
from stoker.rules.states import TaskState

SLOWEST_RATE = 0.01
"""Completions a second below which an estimate would be a guess."""


class Cause(StrEnum):
    """What a task waits for, or how it ended."""

    CANCEL_REQUESTED = "cancel_requested"
    PAUSED = "paused"
    NO_WORKERS = "no_workers"
    UNKNOWN_TASK = "unknown_task"
    NOT_DUE = "not_due"
    OVERDUE = "overdue"
    CONCURRENCY = "concurrency"
    RATE_LIMIT = "rate_limit"
    SUSPECT = "suspect"
    IN_LINE = "in_line"
    SLOTS_BUSY = "slots_busy"
    NEXT = "next"
    RUNNING = "running"
    LEASE_OVER = "lease_over"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Reason(msgspec.Struct, frozen=True):
    """One of the things that hold it where it is."""

    cause: Cause
    text: str


class WorkerInfo(msgspec.Struct, frozen=True):
    """What a live worker said of itself with its last heartbeat. `tasks` is None for one that does not say which it knows."""

    slots: int = 0
    busy: int = 0
    draining: bool = False
    tasks: frozenset[str] | None = None


class Facts(msgspec.Struct, frozen=True):
    """What is known of a task and its queue at one moment; times in ms.

    `at` as in TaskStatus; `ahead` is how many stand before it in its line, None where it stands in none. `back_at` is when the
    rate limit lets the next task go, None where it holds none back. `rate` in completions a second, `workers` how many are
    alive, of whom `hands` are some. `holders` are ids that run with its concurrency key, of which `most` may.
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
    hands: tuple[WorkerInfo, ...] = ()
    key: str | None = None
    most: int = 0
    parked: bool = False
    holders: tuple[str, ...] = ()
    worker: str | None = None
    attempts: int = 0
    losses: int = 0
    failure: str | None = None
    history: tuple[PastFailure, ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    """Why a task is where it is. `text` is the first reason's. `ahead` counts those before it in its line.

    `eta` is in seconds until it will have ended, from how fast the queue completes tasks now; None where nobody can say.
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
    """Put the facts into words."""
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
            yield Cause.DEAD, f"it lies in the dead letters and waits for a redrive{why}"
        case TaskState.READY | TaskState.SCHEDULED:
            yield from _held_back(facts)
            yield from _in_line(facts) if facts.state is TaskState.READY else _not_due(facts)


def _running(facts: Facts) -> Iterator[tuple[Cause, str]]:
    if facts.cancel_at is not None:
        since = _seconds((facts.now - facts.cancel_at) / 1000)
        yield Cause.CANCEL_REQUESTED, f"its cancellation was asked for {since} ago; its worker hears of it with its next heartbeat"
    if facts.at is not None and facts.at <= facts.now:
        yield Cause.LEASE_OVER, f"its worker {facts.worker or ''} has not renewed its lease: another takes it back any moment"
    else:
        yield Cause.RUNNING, f"it runs on worker {facts.worker or 'unknown'}"


def _held_back(facts: Facts) -> Iterator[tuple[Cause, str]]:
    """What holds back every task of the queue, or of this name."""
    if facts.paused:
        yield Cause.PAUSED, f"queue {facts.queue} is paused: stoker resume -q {facts.queue}"
    if facts.workers == 0:
        yield Cause.NO_WORKERS, f"no worker of queue {facts.queue} is alive"
    elif facts.hands and all(hand.draining for hand in facts.hands) and len(facts.hands) == facts.workers:
        yield Cause.NO_WORKERS, f"all {facts.workers} workers of queue {facts.queue} are leaving"
    if (known := _names(facts)) is not None and facts.task not in known:
        names = ", ".join(sorted(known)) or "none"
        yield Cause.UNKNOWN_TASK, f"no live worker knows a task named {facts.task!r}; known are: {names}"


def _names(facts: Facts) -> set[str] | None:
    """The tasks that live workers know; None where one of them does not say, or was not asked."""
    names = [hand.tasks for hand in facts.hands]
    if not names or len(names) < facts.workers:
        return None
    return set().union(*(each for each in names if each is not None)) if None not in names else None


def _not_due(facts: Facts) -> Iterator[tuple[Cause, str]]:
    if facts.at is not None and facts.at > facts.now:
        again = f" for another attempt after {facts.failure}" if facts.failure else ""
        yield Cause.NOT_DUE, f"it is due in {_seconds((facts.at - facts.now) / 1000)}{again}"
    else:
        others = f", with {facts.overdue - 1} others" if facts.overdue > 1 else ""
        yield Cause.OVERDUE, f"it is due{others}; a live worker puts it in line within a second or two"


def _in_line(facts: Facts) -> Iterator[tuple[Cause, str]]:
    if facts.parked:
        yield Cause.CONCURRENCY, _parked(facts)
        return
    if facts.back_at is not None:
        yield Cause.RATE_LIMIT, f"the queue's rate limit lets the next task go in {_seconds((facts.back_at - facts.now) / 1000)}"
    if facts.suspect:
        yield Cause.SUSPECT, f"it was lost with its worker {_times(facts.losses)}, and waits for one that holds no other such task"
    if facts.ahead:
        yield Cause.IN_LINE, f"{_tasks(facts.ahead)} before it"
    free = sum(max(0, hand.slots - hand.busy) for hand in facts.hands if not hand.draining)
    slots = sum(hand.slots for hand in facts.hands if not hand.draining)
    if slots and not free and len(facts.hands) == facts.workers:
        yield Cause.SLOTS_BUSY, f"all {slots} slots of {_workers(facts.workers)} are busy"
    if not facts.ahead:
        yield Cause.NEXT, "it is the next in line"


def _parked(facts: Facts) -> str:
    who = f": {', '.join(facts.holders)}" if facts.holders else ""
    before = f"; {_tasks(facts.ahead)} of that key before it" if facts.ahead else ""
    return f"{len(facts.holders) or facts.most} of {facts.most} tasks with concurrency key {facts.key!r} run already{who}{before}"


_NO_END_IN_SIGHT = {Cause.PAUSED, Cause.NO_WORKERS, Cause.UNKNOWN_TASK, Cause.CONCURRENCY}


def _eta(facts: Facts, causes: set[Cause]) -> float | None:
    if facts.state is not TaskState.READY or facts.ahead is None or facts.rate < SLOWEST_RATE or causes & _NO_END_IN_SIGHT:
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
