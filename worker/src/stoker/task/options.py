"""What may be said of a task beside its arguments: once, where it is declared, and for one call of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

from stoker.errors import Invalid
from stoker.rules.concurrency import Concurrency
from stoker.rules.durability import Durability, check_durability
from stoker.rules.message import check_priority, check_queue, check_retries, check_timeouts
from stoker.rules.retry import Retry
from stoker.rules.unique import Unique


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's declaration says beyond its function. None leaves it to the queue. Timeouts in seconds."""

    queue: str
    priority: int = 0
    timeout: float | None = None
    soft_timeout: float | None = None
    retry: Retry | int | None = None
    unique: Unique | None = None
    concurrency: Concurrency | None = None
    executor: Literal["thread", "process"] | None = None
    version: int = 0

    def __post_init__(self) -> None:
        check_queue(self.queue)
        check_priority(self.priority)
        check_timeouts(self.soft_timeout, self.timeout)
        if isinstance(self.retry, int):
            check_retries(self.retry)
        elif not isinstance(self.retry, Retry | None):
            raise Invalid(f"bad retry {self.retry!r}: use Retry(...), or how many retries")


class Options(TypedDict, total=False):
    """What one call may say: `delay` in seconds or `run_at`, and what it overrides of the task's policy.

    An `id` or an `idempotency_key` (any text) names the task: the same key again is the same task, for as long as it is kept.
    `unique` None: whatever the task's declaration says, this one is not unique; `concurrency` None: no key holds it back.
    `retry` as an int says how many retries, and None says nothing; the exception classes of a Retry stay those of the declaration.
    After `expires` (seconds from now, or a moment) no run begins: a task that still waits by then ends as cancelled.
    """

    id: str
    queue: str
    priority: int
    delay: float
    run_at: datetime
    retry: Retry | int | None
    timeout: float
    soft_timeout: float
    expires: float | datetime
    headers: Mapping[str, str]
    idempotency_key: str
    unique: Unique | None
    concurrency: Concurrency | None
    durability: Literal["memory", "replicated", "fsynced"]


_KNOWN = frozenset(Options.__annotations__)


def check_known(options: Mapping[str, object]) -> None:
    """Raises TypeError for an option that there is not, as Python does for a parameter."""
    if unknown := options.keys() - _KNOWN:
        raise TypeError(f"no option is named {', '.join(sorted(unknown))}; there are {', '.join(sorted(_KNOWN))}")


def fields_of(options: Options) -> dict[str, Any]:
    """The fields of a TaskCall that these options decide, but for those that depend on the task or its arguments."""
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if write := _WRITERS.get(name):
            fields |= write(value)
        elif name in _AS_THEY_ARE:
            fields[name] = value
    return fields


def _retry(retry: Retry | int | None) -> dict[str, Any]:
    if not isinstance(retry, Retry):
        return {"max_retries": retry}
    if retry.on or retry.never:
        raise Invalid("exception classes cannot travel with a call: say on=... and never=... where the task is declared")
    return {"retry": retry.numbers}


def _expires(expires: float | datetime) -> dict[str, Any]:
    return {"expires_at": expires.timestamp()} if isinstance(expires, datetime) else {"expires": expires}


def _durability(durability: str) -> dict[str, Any]:
    return {"durability": check_durability(durability) if durability else Durability.MEMORY}


_AS_THEY_ARE = frozenset({"queue", "priority", "delay", "id", "timeout", "soft_timeout", "idempotency_key"})
_WRITERS: dict[str, Any] = {
    "run_at": lambda moment: {"run_at": moment.timestamp() if moment else 0.0},
    "retry": _retry,
    "expires": _expires,
    "headers": lambda headers: {"headers": dict(headers)},
    "durability": _durability,
}
