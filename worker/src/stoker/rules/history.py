"""What is told of one task's past, and the words for what happens to tasks."""

from enum import StrEnum

import msgspec

from stoker.rules.states import TaskState


class PastFailure(msgspec.Struct, frozen=True):
    """One of a task's last failures, in short. `at` in ms by Redis' clock; attempts are counted anew after a redrive."""

    at: int
    attempt: int
    worker: str
    type: str
    message: str


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a running task says it is. `at` in ms by its worker's clock."""

    done: float
    total: float | None
    note: str
    at: int


class LogLine(msgspec.Struct, frozen=True):
    """A line that a task logged. `at` in ms by its worker's clock."""

    at: int
    attempt: int
    level: str
    text: str


class What(StrEnum):
    """What may happen to a task, or (`PAUSED`, `RESUMED`) to its queue. `what_of` reads the stream's words."""

    ENQUEUED = "enqueued"
    PROMOTED = "promoted"  # its time has come
    STARTED = "started"
    PARKED = "parked"  # its concurrency key has no room
    SUCCEEDED = "succeeded"
    RETRIED = "retried"  # it failed and will run again
    SNOOZED = "snoozed"  # it asked to run later
    RELEASED = "released"  # its worker leaves
    RECLAIMED = "reclaimed"  # its worker was lost
    DEAD = "dead"  # it failed for good
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"
    REDRIVEN = "redriven"
    DELETED = "deleted"  # a dead task was removed
    PURGED = "purged"
    FORGOTTEN = "forgotten"
    PAUSED = "paused"
    RESUMED = "resumed"


_ON_THE_WIRE = {"postponed": What.SNOOZED, "buried": What.DEAD, "discarded": What.DELETED}


def what_of(word: str) -> What:
    """The event that a word in the `:events` stream stands for; three differ from those people see. Raises ValueError."""
    return _ON_THE_WIRE.get(word) or What(word)


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened. `at` in ms by Redis' own clock; `position` is where to go on reading after it.

    `id` is empty where it happened to the queue. `task` is missing where the task is forgotten already. `detail`: the state of an
    enqueued task, the concurrency key of a parked one, `inbox` for one that was buried on its way in.
    """

    position: str
    at: int
    what: What
    id: str = ""
    task: str | None = None
    worker: str | None = None
    detail: str | None = None


GONE: frozenset[TaskState] = frozenset()
LEADS_TO: dict[What, frozenset[TaskState]] = {
    What.ENQUEUED: frozenset({TaskState.READY, TaskState.SCHEDULED}),
    What.PROMOTED: frozenset({TaskState.READY}),
    What.STARTED: frozenset({TaskState.RUNNING}),
    What.PARKED: frozenset({TaskState.READY}),
    What.SUCCEEDED: frozenset({TaskState.SUCCEEDED}),
    What.RETRIED: frozenset({TaskState.SCHEDULED, TaskState.READY}),
    What.SNOOZED: frozenset({TaskState.SCHEDULED, TaskState.READY}),
    What.RELEASED: frozenset({TaskState.READY}),
    What.RECLAIMED: frozenset({TaskState.READY}),
    What.DEAD: frozenset({TaskState.DEAD}),
    What.CANCEL_REQUESTED: frozenset({TaskState.RUNNING}),
    What.CANCELLED: frozenset({TaskState.CANCELLED}),
    What.REDRIVEN: frozenset({TaskState.READY}),
    What.DELETED: GONE,
    What.PURGED: GONE,
    What.FORGOTTEN: GONE,
}
"""Where a task is after each of them; those of the queue are not here."""
