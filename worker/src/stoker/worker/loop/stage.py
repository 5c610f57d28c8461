"""How far a worker is on its way out."""

from enum import IntEnum


class ShutdownStage(IntEnum):
    """How far a worker is on its way out. It never goes back."""

    TAKING = 0
    RESTING = 1  # takes no more, and stays
    LEAVING = 2  # ends when all that was taken is settled
    HURRYING = 3  # and does not wait for a Redis that is away
