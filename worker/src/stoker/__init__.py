"""Stoker: background tasks on Redis, for Kubernetes and for a laptop.

from stoker import Stoker
"""

from stoker.app.app import Stoker
from stoker.app.middleware import EnqueueNext, RunNext
from stoker.app.prepared import Prepared
from stoker.app.task import Handle, Task
from stoker.app.workflow import Chain, Group, chain, group
from stoker.app.workflow_handle import WorkflowHandle
from stoker.errors import (
    Conflict,
    Dead,
    Invalid,
    InvalidArguments,
    NotDurable,
    NotFound,
    RedisRefused,
    RedisUnavailable,
    ResultPending,
    Snooze,
    SoftTimeout,
    StokerError,
    TaskFailed,
    TryAgain,
)
from stoker.queue.reads.inspector import Cancellation
from stoker.queue.records import Receipt, TaskStatus
from stoker.rules.call import TaskCall
from stoker.rules.concurrency import Concurrency
from stoker.rules.dead_task import DeadTask
from stoker.rules.retry import Jitter, Retry
from stoker.rules.schedule import cron, every
from stoker.rules.states import TaskState
from stoker.rules.unique import Unique
from stoker.rules.why import Explanation
from stoker.task.context import Context
from stoker.task.dependencies import INJECTED, Depends, State

__all__ = [
    "INJECTED",
    "Cancellation",
    "Chain",
    "Concurrency",
    "Conflict",
    "Context",
    "Dead",
    "DeadTask",
    "Depends",
    "EnqueueNext",
    "Explanation",
    "Group",
    "Handle",
    "Invalid",
    "InvalidArguments",
    "Jitter",
    "NotDurable",
    "NotFound",
    "Prepared",
    "Receipt",
    "RedisRefused",
    "RedisUnavailable",
    "ResultPending",
    "Retry",
    "RunNext",
    "Snooze",
    "SoftTimeout",
    "State",
    "Stoker",
    "StokerError",
    "Task",
    "TaskCall",
    "TaskFailed",
    "TaskState",
    "TaskStatus",
    "TryAgain",
    "Unique",
    "WorkflowHandle",
    "chain",
    "cron",
    "every",
    "group",
]
