"""Response bodies. A task's payload and result are embedded as JSON, not as strings."""

from collections.abc import Mapping, Sequence

import msgspec
from fastapi import Response
from msgspec import UNSET, Struct, UnsetType

from stoker.errors import Conflict, StokerError
from stoker.queue.reads.statistics import added
from stoker.queue.records import QueueStats, Receipt, TaskStatus, Totals
from stoker.queue.schedules import ScheduleStatus
from stoker.rules.states import TaskState

SHOWN_REASON = 500


class Accepted(Struct, frozen=True, omit_defaults=True):
    """An enqueued task, or the one that was there already (`duplicate`)."""

    task_id: str
    status: TaskState
    duplicate: bool = False


class BatchItem(Struct, frozen=True, omit_defaults=True):
    """One task of a batch. `status` is absent for a duplicate and for a task refused with `error`."""

    task_id: str
    status: TaskState | UnsetType = UNSET
    duplicate: bool = False
    error: str = ""


class BatchReply(Struct, frozen=True):
    """The outcome of each task, in the order sent."""

    accepted: int
    duplicates: int
    conflicts: int
    tasks: list[BatchItem]


class TaskPage(Struct, frozen=True):
    """A page of tasks, of at most PAGE_BYTES unless its one task is larger, and the cursor of the next (null at the end)."""

    tasks: list[TaskStatus]
    cursor: int | None


class QueueNames(Struct, frozen=True):
    """A page of the names of all queues in this namespace, and the `after` of the next (null at the end)."""

    queues: list[str]
    next: str | None


class AllQueues(Struct, frozen=True):
    """Sums over all queues; `oldest_wait` is the longest of them, in seconds; `completion_rate` in tasks a second."""

    scheduled: int
    ready: int
    running: int
    succeeded: int
    dead: int
    cancelled: int
    parked: int
    unclaimed: int
    workers: int
    completion_rate: float
    oldest_wait: float
    totals: Totals


class UnreadableQueue(Struct, frozen=True):
    """A queue that cannot be read, and why."""

    queue: str
    reason: str


class Overview(Struct, frozen=True):
    """A page of queues, and the `after` of the next (null at the end). `unreadable` names those that cannot be read.

    `all` has the sums over all queues; it is null where this is one page of several.
    """

    all: AllQueues | None
    queues: list[QueueStats]
    next: str | None
    unreadable: list[UnreadableQueue] = []


class Redriven(Struct, frozen=True):
    """How many dead tasks run again."""

    redriven: int


class Health(Struct, frozen=True):
    """`alive` or `ready`."""

    status: str


class ShownSchedule(Struct, frozen=True):
    """A schedule. Times in epoch ms, `jitter` in seconds. Without `task` and `cron` where a newer version has written it.

    `next_run` is null while it is suspended or paused. `skipped`: the previous run had not ended; `missed`: no process was there.
    """

    name: str
    source: str
    paused: bool
    next_run: int | None
    last_run: str | None
    last_started: int | None
    last_state: str | None
    skipped: int
    missed: int
    task: str = ""
    cron: str = ""
    time_zone: str = ""
    overlap: str = ""
    catch_up: str = ""
    jitter: float = 0.0
    priority: int = 0

    @classmethod
    def of(cls, status: ScheduleStatus) -> "ShownSchedule":
        """As it is shown, without its payload."""
        definition = status.definition
        fields = {name: getattr(status, name) for name in status.__struct_fields__ if name != "definition"}
        if definition is None:
            return cls(**fields)
        return cls(**fields, **msgspec.structs.asdict(definition.timing), task=definition.task, priority=definition.priority)


class ScheduleList(Struct, frozen=True):
    """The schedules of a queue, by name."""

    queue: str
    schedules: list[ShownSchedule]


class NextRun(Struct, frozen=True):
    """A moment in epoch ms, and the same in the schedule's time zone, RFC 3339."""

    moment: int
    at: str


class NextRuns(Struct, frozen=True):
    """The next runs of a schedule."""

    name: str
    paused: bool
    next: list[NextRun]


class ScheduleRun(Struct, frozen=True):
    """A run that was started by hand."""

    name: str
    task_id: str


class ScheduleChanged(Struct, frozen=True):
    """`changed` is false where the schedule was so already."""

    name: str
    changed: bool


def reply(value: Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The value as a JSON response."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def overview(names: Sequence[str], found: Sequence[QueueStats | StokerError], following: str | None, *, whole: bool) -> Overview:
    """A page, added up if it is `whole`. `found` has the statistics of each queue, or why it cannot be read."""
    queues = [each for each in found if isinstance(each, QueueStats)]
    failed = [(name, each) for name, each in zip(names, found, strict=True) if isinstance(each, StokerError)]
    unreadable = [UnreadableQueue(name, str(error)[:SHOWN_REASON]) for name, error in failed]
    return Overview(_sums(queues) if whole else None, queues, following, unreadable)


def _sums(queues: Sequence[QueueStats]) -> AllQueues:
    return AllQueues(
        **{name: sum(getattr(queue, name) for queue in queues) for name in _SUMMED},
        completion_rate=round(sum(queue.completion_rate for queue in queues), 3),
        oldest_wait=max((queue.oldest_wait for queue in queues), default=0.0),
        totals=added([queue.totals for queue in queues]),
    )


_SUMMED = (*TaskState, "parked", "unclaimed", "workers")


def batch_reply(ids: Sequence[str], outcomes: Sequence[Receipt | Conflict]) -> BatchReply:
    """The outcome of each task; `ids` name those that were refused."""
    items = [_item(task_id, outcome) for task_id, outcome in zip(ids, outcomes, strict=True)]
    duplicates = sum(item.duplicate for item in items)
    conflicts = sum(bool(item.error) for item in items)
    return BatchReply(len(items) - duplicates - conflicts, duplicates, conflicts, items)


def _item(task_id: str, outcome: Receipt | Conflict) -> BatchItem:
    if isinstance(outcome, Conflict):
        return BatchItem(task_id, error=str(outcome))
    return BatchItem(outcome.id, outcome.state or UNSET, outcome.duplicate)
