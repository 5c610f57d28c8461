"""What may be asked of a task: the fields that exclude each other, the limits, and the shapes of its nested fields.

The application, the inbox, `POST /v1/tasks` and the command line read a request each in their own format. What they have read
becomes a `TaskCall` (rules/call.py), whose `check` applies the ranges; each of them only names the field in its own terms.
"""

from collections.abc import Callable, Container
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from stoker.errors import LONGEST, Invalid
from stoker.rules.concurrency import MOST, Limit
from stoker.rules.message import MAX_KEY, MAX_RETRIES, check_key
from stoker.rules.plain import plain_number
from stoker.rules.retry import Backoff, Jitter
from stoker.rules.unique import DAY, Claim, Unique, Until

TEN_YEARS = 10 * 366 * 86400
"""Seconds: the longest time that other programs may ask for. Python code may go up to `errors.LONGEST`."""
LAST_MOMENT = 253_402_300_799.0
"""Epoch seconds: the end of the year 9999."""
MAX_NAME = 200
"""Characters of a task's name."""

EITHER_OR = (("delay", "run_at"), ("id", "idempotency_key"), ("expires", "expires_at"), ("retry", "max_retries"))
"""Fields of which one excludes the other."""


def check_either_or(given: Container[str], shown: Callable[[str], str] = str) -> None:
    """Raises Invalid where two of these fields exclude each other; `shown` is how the caller writes a field's name."""
    for this, other in EITHER_OR:
        if this in given and other in given:
            raise Invalid(f"give either {shown(this)} or {shown(other)}, not both", other)


def check_expires(seconds: float) -> float:
    """Raises Invalid unless it is a number of seconds above 0: what has expired when it is enqueued never runs."""
    number = plain_number(seconds)
    if number is None or not 0 < number <= LONGEST:
        raise Invalid(f"bad expires {seconds!r}: use a number of seconds above 0, or leave it out", "expires")
    return number


def check_moment(moment: float, field: str) -> float:
    """Raises Invalid unless it is 0 (none) or in epoch seconds up to the year 9999."""
    number = plain_number(moment)
    if number is None or not 0 <= number <= LAST_MOMENT:
        raise Invalid(f"bad {field} {moment!r}: use seconds since 1970", field)
    return number


Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY)]
Wait = Annotated[float, Meta(ge=0, le=TEN_YEARS, description="Seconds.")]


class RetryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """When a failed run is retried. The exception classes of the task's declaration still hold."""

    max_retries: Annotated[int, Meta(ge=0, le=MAX_RETRIES, description="Attempts after the first.")] = Backoff().max_retries
    initial_delay: Wait = Backoff().initial_delay
    multiplier: Annotated[float, Meta(ge=1, le=1000, description="How many times the last wait.")] = Backoff().multiplier
    max_delay: Wait = Backoff().max_delay
    jitter: Annotated[Jitter, Meta(description="How waits are spread.")] = Backoff().jitter

    def backoff(self) -> Backoff:
        """As it travels in the envelope."""
        return Backoff(**msgspec.structs.asdict(self))


class UniqueRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Enqueue only if no task of the same kind waits (until it has started) or waits and runs (until it is done)."""

    until: Annotated[Until, Meta(description="When the next one may be enqueued.")] = "done"
    ttl: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds from when it is due, after which it excludes none.")] = DAY
    key: Annotated[Key, Meta(description="What is the same; without it, the payload.")] | None = None

    def claim(self, task: str, payload: bytes) -> Claim:
        """What a task with this payload claims. Raises Invalid for a bad key."""
        return Unique(self.until, self.ttl, self.key).claim(task, payload)


class ConcurrencyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Run at most `limit` tasks of one key at a time; the others wait."""

    key: Annotated[Key, Meta(description="As it is: no arguments are put into it.")]
    limit: Annotated[int, Meta(ge=1, le=MOST, description="How many at a time.")] = 1

    def most(self) -> Limit:
        """As it is stored. Raises Invalid for a bad key."""
        return Limit(check_key(self.key), self.limit)
