"""How tasks of a TaskQueue are retried, leased, kept and limited."""

from typing import Annotated

from msgspec import Meta

from stoker.manifest.fields import Count, Factor, Pace, Spec
from stoker.rules import retry
from stoker.rules.units import Duration


class RetrySpec(Spec, frozen=True):
    """The queue's retry policy, for tasks without one."""

    max_retries: Annotated[int, Meta(ge=0, le=1000)] = 3
    initial_delay: Duration = Duration(5)
    multiplier: Factor = Factor(2)
    max_delay: Duration = Duration(3600)
    jitter: retry.Jitter = retry.Jitter.FULL

    def policy(self) -> retry.Retry:
        """The policy as stoker.rules takes it."""
        return retry.Retry(self.max_retries, self.initial_delay, self.multiplier, self.max_delay, self.jitter)


class Lease(Spec, frozen=True):
    """How long a worker that stopped renewing keeps its tasks; after `max_lost` worker losses a task is dead."""

    duration: Duration = Duration(30)
    max_lost: Annotated[int, Meta(ge=1, le=100)] = 3

    def __post_init__(self) -> None:
        if self.duration < 1:
            raise ValueError("a lease shorter than 1s would expire between two heartbeats")


class Keep(Spec, frozen=True):
    """How long ended tasks are kept, and how many at most."""

    age: Duration
    count: Count = 100_000


class KeepFor(Spec, frozen=True):
    """How long something is kept."""

    age: Duration


class Retention(Spec, frozen=True):
    """What is kept of succeeded and dead tasks; how long unclaimed ones wait for a worker that knows them before they are dead."""

    succeeded: Keep = Keep(Duration(3600))
    dead: Keep = Keep(Duration(7 * 86400))
    unclaimed: KeepFor = KeepFor(Duration(7 * 86400))


class RateLimit(Spec, frozen=True):
    """Limit on the starts of tasks across all workers: a token bucket of size `burst`, refilled with `per_second` tokens."""

    per_second: Pace
    burst: Pace
