"""Stoker: background tasks on Redis, for Kubernetes and for a laptop.

from stoker import Stoker
"""

from stoker.app import Stoker
from stoker.context import Context
from stoker.errors import (
    Conflict,
    Dead,
    Invalid,
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
from stoker.injection import INJECTED, Depends, State
from stoker.prepared import Prepared
from stoker.rules.concurrency import Concurrency
from stoker.rules.retry import Jitter, Retry
from stoker.rules.schedule import cron, every
from stoker.rules.unique import Unique
from stoker.task import Handle, Task
from stoker.workflow import Chain, Group, chain, group
from stoker.workflow_handle import WorkflowHandle

__all__ = [
    "INJECTED",
    "Chain",
    "Concurrency",
    "Conflict",
    "Context",
    "Dead",
    "Depends",
    "Group",
    "Handle",
    "Invalid",
    "Jitter",
    "NotDurable",
    "NotFound",
    "Prepared",
    "RedisRefused",
    "RedisUnavailable",
    "ResultPending",
    "Retry",
    "Snooze",
    "SoftTimeout",
    "State",
    "Stoker",
    "StokerError",
    "Task",
    "TaskFailed",
    "TryAgain",
    "Unique",
    "WorkflowHandle",
    "chain",
    "cron",
    "every",
    "group",
]
