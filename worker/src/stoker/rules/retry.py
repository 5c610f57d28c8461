"""Retry policies: which failures are retried, how many times, and after what delay."""

from collections.abc import Callable
from enum import StrEnum
from math import isfinite

import msgspec
from msgspec.structs import force_setattr

from stoker.errors import Invalid
from stoker.rules.plain import plain_int, plain_number


class Jitter(StrEnum):
    """How delays are randomized, so that tasks that failed together do not come back together: see `backoff`."""

    FULL = "Full"
    EQUAL = "Equal"
    DECORRELATED = "Decorrelated"
    NONE = "None"


class Backoff(msgspec.Struct, frozen=True):
    """The part of a retry policy that is sent with a task: at most `max_retries` further attempts, delays in seconds."""

    max_retries: int = 3
    initial_delay: float = 5.0
    multiplier: float = 2.0
    max_delay: float = 3600.0
    jitter: Jitter = Jitter.FULL

    def __post_init__(self) -> None:
        count = plain_int(self.max_retries)
        seconds = {name: plain_number(getattr(self, name)) for name in ("initial_delay", "multiplier", "max_delay")}
        for name, number in {"max_retries": count, **seconds}.items():
            if number is None or not isfinite(number) or number < (name == "multiplier"):
                rule = "all numbers must be finite and not negative, max_retries a whole one, and the multiplier at least 1"
                raise Invalid(f"bad {self}: {rule}", "retry")
            force_setattr(self, name, number)
        if self.jitter not in tuple(Jitter):
            raise Invalid(f"bad jitter {self.jitter!r} of a retry policy: use one of {', '.join(Jitter)}", "retry")
        force_setattr(self, "jitter", Jitter(self.jitter))


class Retry(Backoff, frozen=True):
    """A retry policy: its numbers, and the exception classes that it applies to.

    Exceptions of a class in `on`, or of a subclass, are retried; an empty `on` means all. Those of a class in `never` are not,
    even if `on` covers them: their task is dead at once.
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
        """Whether an exception of this class is retried."""
        return not issubclass(kind, self.never) and (not self.on or issubclass(kind, self.on))

    @property
    def numbers(self) -> Backoff:
        """The part that is sent with a task."""
        return Backoff(self.max_retries, self.initial_delay, self.multiplier, self.max_delay, self.jitter)


def narrowed(policy: Retry, by: Backoff | int | None) -> Retry:
    """A policy overridden by a more specific one: the queue's by the task's, that by the call's.

    A Retry replaces all of it; a Backoff all but the exception classes; an int only `max_retries`; None nothing.
    """
    if by is None:
        return policy
    if isinstance(by, Retry):
        return by
    if isinstance(by, Backoff):
        return msgspec.structs.replace(policy, **msgspec.structs.asdict(by))
    return msgspec.structs.replace(policy, max_retries=by)


def backoff(policy: Backoff, failures: int, random: Callable[[], float]) -> float:
    """Seconds to wait after failure number `failures` (1 = the first), at most `max_delay`. `random` returns a float in [0, 1).

    Exponential backoff with jitter. `Full`: uniform between 0 and the exponential delay, which spreads best. `Equal`: between
    half of it and all of it. `Decorrelated`: between the initial delay and `multiplier` times the previous delay (the source
    uses 3); previous delays are not stored but drawn again, which gives each delay the same distribution.
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
"""Maximum number of draws for one delay: the maximum number of retries."""


def _decorrelated(policy: Backoff, failures: int, random: Callable[[], float]) -> float:
    wait = least = min(policy.initial_delay, policy.max_delay)
    for _ in range(min(failures, _LONGEST_CHAIN)):
        wait = min(policy.max_delay, least + (wait * policy.multiplier - least) * random())
    return wait
