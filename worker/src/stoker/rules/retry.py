"""Which failures are tried again, how often, and how long a failed task waits before."""

from collections.abc import Callable
from enum import StrEnum
from math import isfinite

import msgspec

from stoker.errors import Invalid


class Jitter(StrEnum):
    """How the waits of tasks that failed together are spread: see `backoff`."""

    FULL = "Full"
    EQUAL = "Equal"
    DECORRELATED = "Decorrelated"
    NONE = "None"


class Backoff(msgspec.Struct, frozen=True):
    """The numbers of a retry policy, which can travel with a task: at most `max_retries` further attempts, waits in seconds."""

    max_retries: int = 3
    initial_delay: float = 5.0
    multiplier: float = 2.0
    max_delay: float = 3600.0
    jitter: Jitter = Jitter.FULL

    def __post_init__(self) -> None:
        numbers = (self.max_retries, self.initial_delay, self.multiplier - 1, self.max_delay)
        if not all(number >= 0 and isfinite(number) for number in numbers):
            raise Invalid(f"bad {self}: no number may be negative or endless, and the multiplier is at least 1")


class Retry(Backoff, frozen=True):
    """A retry policy: its numbers, and the kinds of exceptions that it is for.

    Only exceptions of a class in `on` (or of a subclass) are tried again, all where it is empty; those of a class in `never`
    are not, whatever `on` says: their task is buried at once.
    """

    on: tuple[type[BaseException], ...] = ()
    never: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for kinds in (self.on, self.never):
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
            ):
                raise Invalid(f"bad exception classes {kinds!r} of a retry policy: give a tuple of them, as (ConnectionError,)")

    def covers(self, kind: type[BaseException]) -> bool:
        """Whether an exception of this class may be tried again."""
        return not issubclass(kind, self.never) and (not self.on or issubclass(kind, self.on))

    @property
    def numbers(self) -> Backoff:
        """What can travel."""
        return Backoff(self.max_retries, self.initial_delay, self.multiplier, self.max_delay, self.jitter)


def narrowed(policy: Retry, by: Backoff | int | None) -> Retry:
    """A wide policy as the next narrower one changes it: the queue's by the task's, that by the call's.

    A whole Retry takes its place; numbers leave it its exception classes; an int only says how many retries; None nothing.
    """
    if by is None:
        return policy
    if isinstance(by, Retry):
        return by
    if isinstance(by, Backoff):
        return msgspec.structs.replace(policy, **msgspec.structs.asdict(by))
    return msgspec.structs.replace(policy, max_retries=by)


def backoff(policy: Backoff, failures: int, random: Callable[[], float]) -> float:
    """Seconds to wait after the failure number `failures` (1 = the first), never more than `max_delay`. `random` gives [0, 1).

    The steady wait is exponential, and jitter spreads it, so that tasks that failed together do not come back together:
    `Full` between 0 and that wait, which spreads a herd best; `Equal` between half of it and all of it; `Decorrelated` between
    the initial delay and `multiplier` times the wait before (the source takes 3). Waits before are not kept: they are drawn
    anew, which gives each wait the same distribution.
    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if policy.jitter is Jitter.DECORRELATED:
        return _decorrelated(policy, failures, random)
    try:
        bound = min(policy.max_delay, policy.initial_delay * policy.multiplier ** (failures - 1))
    except OverflowError:
        bound = policy.max_delay
    match policy.jitter:
        case Jitter.FULL:
            return bound * random()
        case Jitter.EQUAL:
            return bound / 2 + bound / 2 * random()
        case _:
            return bound


_LONGEST_CHAIN = 1000
"""Draws for one wait: as many as there can be retries."""


def _decorrelated(policy: Backoff, failures: int, random: Callable[[], float]) -> float:
    wait = least = min(policy.initial_delay, policy.max_delay)
    for _ in range(min(failures, _LONGEST_CHAIN)):
        wait = min(policy.max_delay, least + (wait * policy.multiplier - least) * random())
    return wait
