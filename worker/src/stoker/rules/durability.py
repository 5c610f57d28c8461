"""How durable an enqueue must be before it is acknowledged."""

from enum import StrEnum

from stoker.errors import Invalid


class Durability(StrEnum):
    """What a caller waits for: the server's memory, a replica's memory, or the server's disk."""

    MEMORY = "memory"
    REPLICATED = "replicated"
    FSYNCED = "fsynced"


def check_durability(value: str) -> Durability:
    """Raises Invalid for a word that promises nothing."""
    try:
        return Durability(value)
    except ValueError:
        raise Invalid(f"durability {value!r} is unknown: choose memory, replicated or fsynced") from None
