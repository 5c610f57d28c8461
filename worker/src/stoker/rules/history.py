"""The history of a task: past failures, progress, log lines, and the events of its queue."""

from enum import StrEnum

import msgspec


class PastFailure(msgspec.Struct, frozen=True):
    """One of a task's last failures, without traceback. `at` in epoch ms of Redis' clock; a redrive restarts `attempt` at 1."""

    at: int
    attempt: int
    worker: str
    type: str
    message: str


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
    """The kinds of events of a task, or (`PAUSED`, `RESUMED`) of its queue, as they are named in the stream."""

    ENQUEUED = "enqueued"
    PROMOTED = "promoted"  # it is due
    STARTED = "started"
    PARKED = "parked"  # its concurrency key is full
    SUCCEEDED = "succeeded"
    RETRIED = "retried"  # it failed and will run again
    SNOOZED = "postponed"
    RELEASED = "released"  # given back unfinished by its worker
    RECLAIMED = "reclaimed"  # its worker was lost
    BURIED = "buried"  # it is dead
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"
    REDRIVEN = "redriven"
    DELETED = "discarded"
    PURGED = "purged"
    FORGOTTEN = "forgotten"  # its retention is over
    PAUSED = "paused"
    RESUMED = "resumed"


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
