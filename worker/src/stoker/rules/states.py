"""The life of a task as data. docs/architecture/states.md draws it and a test holds the two together."""

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is. It is always in exactly one of these."""

    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True where only a person moves the task on."""
        return self in {TaskState.SUCCEEDED, TaskState.DEAD, TaskState.CANCELLED}
