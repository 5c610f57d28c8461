"""Options of a task besides its arguments: those of its declaration, and those of one call."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec
from msgspec.structs import force_setattr

from stoker.errors import Invalid
from stoker.rules.concurrency import Concurrency
from stoker.rules.durability import Durability, check_durability
from stoker.rules.message import check_headers, check_priority, check_queue, check_retries, check_timeouts, check_version
from stoker.rules.plain import plain_int
from stoker.rules.retry import Retry
from stoker.rules.unique import Unique
from stoker.task.links import Links, onward_of


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
    ignore_result: bool = False

    def __post_init__(self) -> None:
        soft, hard = check_timeouts(self.soft_timeout, self.timeout)
        plain = {
            "queue": check_queue(self.queue),
            "priority": check_priority(self.priority),
            "timeout": hard,
            "soft_timeout": soft,
            "retry": check_retry(self.retry),
            "unique": check_unique(self.unique),
            "concurrency": check_concurrency(self.concurrency),
            "version": check_version(self.version),
        }
        for field, value in plain.items():
            force_setattr(self, field, value)
        if not isinstance(self.ignore_result, bool):
            raise Invalid(f"bad ignore_result {self.ignore_result!r}: use True or False", "ignore_result")


class Options(TypedDict, total=False):
    """The options of one call: when it runs (`delay` in seconds, or `run_at`), and overrides of the task's declaration.

    `id` or `idempotency_key` (any text) identifies the task: the same one again is the same task, for as long as it is kept.
    `unique` None: this call is not unique; `concurrency` None: it has no concurrency key. `retry` as an int is the number of
    retries, and None leaves it to the declaration, as do the exception classes of a Retry. `expires` (seconds from now, or a
    datetime): no run begins after it, and a task that still waits becomes cancelled. `check_arguments` False: their types are left
    to the worker. `on_success` begins with its result, once it has succeeded; `on_failure` with the DeadTask, each time that it is
    dead: `piped` links take these.
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
    check_arguments: bool
    on_success: Links | None
    on_failure: Links | None


_KNOWN = frozenset(Options.__annotations__)


def check_retry(retry: Retry | int | None) -> Retry | int | None:
    """Raises Invalid unless it is a Retry, a number of retries, or None."""
    if retry is None or isinstance(retry, Retry):
        return retry
    if plain_int(retry) is None:
        raise Invalid(f"bad retry {retry!r}: use Retry(...) or a number of retries", "retry")
    return check_retries(retry)


def check_unique(unique: Unique | None) -> Unique | None:
    """Raises Invalid unless it is a Unique, or None."""
    if unique is not None and not isinstance(unique, Unique):
        raise Invalid(f"bad unique {unique!r}: use Unique(...), or None", "unique")
    return unique


def check_concurrency(concurrency: Concurrency | None) -> Concurrency | None:
    """Raises Invalid unless it is a Concurrency, or None."""
    if concurrency is not None and not isinstance(concurrency, Concurrency):
        raise Invalid(f"bad concurrency {concurrency!r}: use Concurrency(...), or None", "concurrency")
    return concurrency


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
    if "on_success" in options or "on_failure" in options:
        fields["onward"] = onward_of(options.get("on_success"), options.get("on_failure"))
    return fields


def _retry(retry: Retry | int | None) -> dict[str, Any]:
    retry = check_retry(retry)
    if not isinstance(retry, Retry):
        return {"max_retries": retry}
    if retry.on or retry.never:
        raise Invalid("exception classes cannot travel with a call: give on=... and never=... where the task is declared", "retry")
    return {"retry": retry.numbers}


def _expires(expires: float | datetime) -> dict[str, Any]:
    if isinstance(expires, datetime):
        return {"expires_at": _timestamp("expires", expires)}
    return {"expires": 0.0 if expires is None else expires}


def _timestamp(field: str, moment: datetime) -> float:
    """Epoch seconds. Raises Invalid for another type, and for a moment without a time zone: it would mean another one elsewhere."""
    if not isinstance(moment, datetime):
        raise Invalid(f"bad {field} {moment!r}: use a datetime with a time zone", field)
    if moment.utcoffset() is None:
        raise Invalid(f"{field} {moment} has no time zone: write datetime(..., tzinfo=UTC) or moment.astimezone()", field)
    return max(0.001, moment.timestamp())  # 0 means unset


def _durability(durability: str) -> dict[str, Any]:
    return {"durability": Durability.MEMORY if durability is None else check_durability(durability)}


_AS_THEY_ARE = frozenset({"queue", "priority", "id", "timeout", "soft_timeout", "idempotency_key"})
_WRITERS: dict[str, Any] = {
    "delay": lambda delay: {"delay": 0.0 if delay is None else delay},
    "run_at": lambda moment: {"run_at": _timestamp("run_at", moment) if moment is not None else 0.0},
    "retry": _retry,
    "expires": _expires,
    "headers": lambda headers: {"headers": check_headers(headers)},
    "durability": _durability,
}
