"""The life of a task as data. docs/architecture/states.md draws it and a test holds the two together."""

from enum import StrEnum


class State(StrEnum):
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
        return self in {State.SUCCEEDED, State.DEAD, State.CANCELLED}


MOVES: dict[State, frozenset[State]] = {
    State.SCHEDULED: frozenset({State.READY, State.CANCELLED}),
    State.READY: frozenset({State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.SCHEDULED, State.READY, State.DEAD, State.CANCELLED}),
    State.DEAD: frozenset({State.READY}),  # only by a person: redrive
    State.SUCCEEDED: frozenset(),
    State.CANCELLED: frozenset(),
}
