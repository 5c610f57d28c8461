"""The states of a task. docs/architecture/states.md draws the transitions between them."""

from enum import StrEnum


class TaskState(StrEnum):
    """The state of a task: always exactly one of these."""

    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the task has ended. Only a redrive, by hand, takes a dead one out of it."""
        return self in {TaskState.SUCCEEDED, TaskState.DEAD, TaskState.CANCELLED}
