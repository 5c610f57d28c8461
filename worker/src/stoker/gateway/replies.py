"""What the gateway answers with. A task's payload and result are embedded as the JSON they are."""

from collections.abc import Mapping, Sequence

import msgspec
from fastapi import Response
from msgspec import UNSET, Struct, UnsetType

from stoker.errors import Conflict
from stoker.queue.records import QueueStats, Receipt, TaskStatus
from stoker.rules.states import TaskState


class Accepted(Struct, frozen=True, omit_defaults=True):
    """A task that was taken, or was there already (`duplicate`)."""

    task_id: str
    status: TaskState
    duplicate: bool = False


class BatchItem(Struct, frozen=True, omit_defaults=True):
    """One task of a batch. `status` is missing for a duplicate (ask for the task) and where `error` says why it was not taken."""

    task_id: str
    status: TaskState | UnsetType = UNSET
    duplicate: bool = False
    error: str = ""


class BatchReply(Struct, frozen=True):
    """What became of each task, in the order sent."""

    accepted: int
    duplicates: int
    conflicts: int
    tasks: list[BatchItem]


class TaskPage(Struct, frozen=True):
    """Some tasks, and the cursor of the next page (null at the end)."""

    tasks: list[TaskStatus]
    cursor: int | None


class QueueNames(Struct, frozen=True):
    """All queues ever used in this namespace."""

    queues: list[str]


class Totals(Struct, frozen=True):
    """Sums over all queues; `oldest_wait` is the longest, in seconds; `completion_rate` in tasks a second."""

    ready: int
    running: int
    scheduled: int
    dead: int
    workers: int
    enqueued: int
    succeeded: int
    completion_rate: float
    oldest_wait: float


class Overview(Struct, frozen=True):
    """Every queue, and all of them together."""

    total: Totals
    queues: list[QueueStats]


class Health(Struct, frozen=True):
    """The process lives, or is ready."""

    status: str


def reply(value: Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def overview(queues: list[QueueStats]) -> Overview:
    """Add up."""
    total = Totals(
        ready=sum(queue.ready for queue in queues),
        running=sum(queue.running for queue in queues),
        scheduled=sum(queue.scheduled for queue in queues),
        dead=sum(queue.dead for queue in queues),
        workers=sum(queue.workers for queue in queues),
        enqueued=sum(queue.enqueued for queue in queues),
        succeeded=sum(queue.succeeded for queue in queues),
        completion_rate=round(sum(queue.completion_rate for queue in queues), 3),
        oldest_wait=max((queue.oldest_wait for queue in queues), default=0.0),
    )
    return Overview(total, queues)


def batch_reply(ids: Sequence[str], outcomes: Sequence[Receipt | Conflict]) -> BatchReply:
    """Say of each task what became of it; `ids` are for those that were not taken."""
    items = [_item(task_id, outcome) for task_id, outcome in zip(ids, outcomes, strict=True)]
    duplicates = sum(item.duplicate for item in items)
    conflicts = sum(bool(item.error) for item in items)
    return BatchReply(len(items) - duplicates - conflicts, duplicates, conflicts, items)


def _item(task_id: str, outcome: Receipt | Conflict) -> BatchItem:
    if isinstance(outcome, Conflict):
        return BatchItem(task_id, error=str(outcome))
    return BatchItem(outcome.id, outcome.state or UNSET, outcome.duplicate)
