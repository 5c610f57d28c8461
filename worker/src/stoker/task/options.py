"""Options of a task besides its arguments: those of its declaration, and those of one call."""

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
    """The options of a declaration. None leaves one to the queue. Timeouts in seconds. Raises Invalid for values out of range."""

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
            raise Invalid(f"bad retry {self.retry!r}: use Retry(...) or a number of retries", "retry")


class Options(TypedDict, total=False):
    """The options of one call: when it runs (`delay` in seconds, or `run_at`), and overrides of the task's declaration.

    `id` or `idempotency_key` (any text) identifies the task: the same one again is the same task, for as long as it is kept.
    `unique` None: this call is not unique; `concurrency` None: it has no concurrency key. `retry` as an int is the number of
    retries, and None leaves it to the declaration, as do the exception classes of a Retry. `expires` (seconds from now, or a
    datetime): no run begins after it, and a task that still waits becomes cancelled.
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
    """Raises TypeError for an unknown option, as Python does for a parameter."""
    if unknown := options.keys() - _KNOWN:
        raise TypeError(f"unknown option {', '.join(sorted(unknown))}; there are {', '.join(sorted(_KNOWN))}")


def fields_of(options: Options) -> dict[str, Any]:
    """These options as fields of a TaskCall, without `unique` and `concurrency`, which depend on the arguments."""
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
        raise Invalid("exception classes cannot travel with a call: give on=... and never=... where the task is declared", "retry")
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
