"""How long a failed task waits before it runs again."""

from collections.abc import Callable
from enum import StrEnum
from math import isfinite

import msgspec

from stoker.errors import Invalid


class Jitter(StrEnum):
    """How the waits of tasks that failed together are spread."""

    FULL = "Full"
    NONE = "None"


class Retry(msgspec.Struct, frozen=True):
    """A retry policy: at most `max_retries` further attempts, waits in seconds."""

    max_retries: int = 3
    initial_delay: float = 5.0
    multiplier: float = 2.0
    max_delay: float = 3600.0
    jitter: Jitter = Jitter.FULL

    def __post_init__(self) -> None:
        numbers = (self.max_retries, self.initial_delay, self.multiplier - 1, self.max_delay)
        if not all(number >= 0 and isfinite(number) for number in numbers):
            raise Invalid(f"bad {self}: no number may be negative or endless, and the multiplier is at least 1")


def backoff(policy: Retry, failures: int, random: Callable[[], float]) -> float:
    """Seconds to wait after the failure number `failures` (1 = the first), never more than `max_delay`.

    Exponential, with "full jitter": uniform between 0 and the exponential bound, which spreads a
    herd best (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). `random` gives [0, 1).
    """
    try:
        bound = min(policy.max_delay, policy.initial_delay * policy.multiplier ** (failures - 1))
    except OverflowError:
        bound = policy.max_delay
    return bound * random() if policy.jitter is Jitter.FULL else bound
