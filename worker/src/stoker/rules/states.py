"""The life of a task as data. docs/architecture/states.md draws it and a test holds the two together."""

from enum import StrEnum


class State(StrEnum):
    """Where a task is. It is always in exactly one of these."""

    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"

    @property
    def final(self) -> bool:
        """True where only a person moves the task on."""
        return self in {State.SUCCEEDED, State.DEAD}


MOVES: dict[State, frozenset[State]] = {
    State.SCHEDULED: frozenset({State.READY}),
    State.READY: frozenset({State.RUNNING}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.SCHEDULED, State.READY, State.DEAD}),
    State.DEAD: frozenset({State.READY}),  # only by a person: redrive
    State.SUCCEEDED: frozenset(),
}
