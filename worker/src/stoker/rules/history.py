"""The history of a task: past failures, progress, log lines, and the events of its queue."""

from enum import StrEnum

import msgspec


class Handler(msgspec.Struct, frozen=True):
    """A task that was enqueued because another one died."""

    id: str
    queue: str
    task: str


class PastFailure(msgspec.Struct, frozen=True):
    """One of a task's last failures, without traceback. `at` in epoch ms of Redis' clock; a redrive restarts `attempt` at 1.

    `cause`: why its worker was lost, where that is known (rules/losses.py). `handlers`: enqueued since the task died of it.
    """

    at: int
    attempt: int
    worker: str
    type: str
    message: str
    cause: str | None = None
    handlers: list[Handler] = []


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress that a running task reported last. `at` in epoch ms of its worker's clock."""

    done: float
    total: float | None
    note: str
    at: int


class LogLine(msgspec.Struct, frozen=True):
    """A line that a task logged. `at` in epoch ms of its worker's clock."""

    at: int
    attempt: int
    level: str
    text: str


class What(StrEnum):
    """The kinds of events of a task, or (`PAUSED`, `RESUMED`) of its queue. `what_of` reads the stream's words."""

    ENQUEUED = "enqueued"
    PROMOTED = "promoted"  # it is due
    STARTED = "started"
    PARKED = "parked"  # its concurrency key is full
    UNCLAIMED = "unclaimed"  # no living worker knows its name
    SUCCEEDED = "succeeded"
    RETRIED = "retried"  # it failed and will run again
    SNOOZED = "snoozed"  # it asked to run later
    RELEASED = "released"  # given back unfinished by its worker
    RECLAIMED = "reclaimed"  # its worker was lost
    DEAD = "dead"  # it failed for good
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"
    REDRIVEN = "redriven"
    DELETED = "deleted"  # a dead task was removed
    PURGED = "purged"
    FORGOTTEN = "forgotten"  # its retention is over
    PAUSED = "paused"
    RESUMED = "resumed"


_ON_THE_WIRE = {"postponed": What.SNOOZED, "buried": What.DEAD, "discarded": What.DELETED}


def what_of(word: str) -> What:
    """The event that a word in the `:events` stream stands for; three differ from those people see. Raises ValueError."""
    return _ON_THE_WIRE.get(word) or What(word)


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event. `at` in epoch ms of Redis' clock; reading continues after `position`.

    `id` is empty for events of the queue. `task` is None where the task is deleted by now. `detail`: the state of an enqueued
    task, the concurrency key of a parked one, `inbox` for a malformed inbox entry that was buried.
    """

    position: str
    at: int
    what: What
    id: str = ""
    task: str | None = None
    worker: str | None = None
    detail: str | None = None
