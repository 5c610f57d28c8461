"""The life of a task as data: the oracle that the model, the events and the diagram in docs/architecture/states.md are held to."""

from stoker.rules.history import What
from stoker.rules.states import TaskState

MOVES: dict[TaskState, frozenset[TaskState]] = {
    TaskState.SCHEDULED: frozenset({TaskState.READY, TaskState.CANCELLED}),
    TaskState.READY: frozenset({TaskState.RUNNING, TaskState.CANCELLED, TaskState.DEAD}),  # dead: no worker knew it
    TaskState.RUNNING: frozenset({TaskState.SUCCEEDED, TaskState.SCHEDULED, TaskState.READY, TaskState.DEAD, TaskState.CANCELLED}),
    TaskState.DEAD: frozenset({TaskState.READY}),  # redrive, by hand
    TaskState.SUCCEEDED: frozenset(),
    TaskState.CANCELLED: frozenset(),
}
"""The states that each state leads to."""

GONE: frozenset[TaskState] = frozenset()
LEADS_TO: dict[What, frozenset[TaskState]] = {
    What.ENQUEUED: frozenset({TaskState.READY, TaskState.SCHEDULED}),
    What.PROMOTED: frozenset({TaskState.READY}),
    What.STARTED: frozenset({TaskState.RUNNING}),
    What.PARKED: frozenset({TaskState.READY}),
    What.UNCLAIMED: frozenset({TaskState.READY}),
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
"""The states a task may be in after each event; empty: it is deleted. Events of the queue are left out."""
