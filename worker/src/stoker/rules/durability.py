"""Durability of an enqueue: where a task must be stored before the enqueue is acknowledged."""

from enum import StrEnum

from stoker.errors import Invalid


class Durability(StrEnum):
    """What an enqueue waits for: memory of the server, memory of a replica, or the disk of the server."""

    MEMORY = "memory"
    REPLICATED = "replicated"
    FSYNCED = "fsynced"


def check_durability(value: str) -> Durability:
    """Raises Invalid for an unknown value."""
    try:
        return Durability(value)
    except ValueError:
        raise Invalid(f"durability {value!r} is unknown: choose memory, replicated or fsynced") from None
