"""What other programs may say of a task beside its arguments, in `POST /v1/tasks` and in the inbox: shapes, and what they mean."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from stoker.rules.concurrency import MOST, Limit
from stoker.rules.message import MAX_KEY, MAX_RETRIES, check_key
from stoker.rules.retry import Backoff, Jitter
from stoker.rules.unique import DAY, Claim, Unique, Until

TEN_YEARS = 10 * 366 * 86400
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY)]
Wait = Annotated[float, Meta(ge=0, le=TEN_YEARS, description="Seconds.")]


class RetryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """When a failed run is tried again. The exception classes that the task's declaration names stay its own."""

    max_retries: Annotated[int, Meta(ge=0, le=MAX_RETRIES, description="Attempts after the first.")] = Backoff().max_retries
    initial_delay: Wait = Backoff().initial_delay
    multiplier: Annotated[float, Meta(ge=1, le=1000, description="How many times the last wait.")] = Backoff().multiplier
    max_delay: Wait = Backoff().max_delay
    jitter: Annotated[Jitter, Meta(description="How waits are spread.")] = Backoff().jitter

    def backoff(self) -> Backoff:
        """As it travels."""
        return Backoff(**msgspec.structs.asdict(self))


class UniqueRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Enqueue only if no task of the same kind waits (until it has started) or waits and runs (until it is done)."""

    until: Annotated[Until, Meta(description="When the next one may be enqueued.")] = "done"
    ttl: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds from when it is due, after which it keeps nobody out.")] = (
        DAY
    )
    key: Annotated[Key, Meta(description="What is the same; without it, the payload.")] | None = None

    def claim(self, task: str, payload: bytes) -> Claim:
        """What a task with this payload claims. Raises Invalid for a bad key."""
        return Unique(self.until, self.ttl, self.key).claim(task, payload)


class ConcurrencyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Run only so many tasks of one key at a time; the others wait."""

    key: Annotated[Key, Meta(description="As it is: no arguments are put into it.")]
    limit: Annotated[int, Meta(ge=1, le=MOST, description="How many at a time.")] = 1

    def most(self) -> Limit:
        """As it travels. Raises Invalid for a bad key."""
        return Limit(check_key(self.key), self.limit)
