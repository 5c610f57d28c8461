"""Unique tasks: of all tasks with the same claim, at most one is enqueued at a time, until it starts or until it ends.

The claim of a task is computed here, as a digest; `_admit.lua` decides which task holds it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import msgspec
from msgspec.structs import force_setattr

from stoker.errors import LONGEST, Invalid
from stoker.rules.message import check_key, digest
from stoker.rules.plain import plain_number

DAY = 86400.0


Until = Literal["started", "done"]
"""When the claim is released, and the next such task may be enqueued: when the task starts, or when it ends."""


class Claim(msgspec.Struct, frozen=True):
    """What a unique task holds in its queue, for at most `ttl` seconds from when it is due; then another task may take it over."""

    digest: str
    until: Until
    ttl: float


class Unique(msgspec.Struct, frozen=True):
    """How a task is unique in its queue. Raises Invalid for values out of range.

    `until` is "started" or "done" (succeeded, dead or cancelled). `ttl`, in seconds from when a task is due, bounds how long it
    can block others. Tasks of the same name with the same `key` are duplicates: a string, a function of the arguments that
    returns one, or None for the arguments themselves.
    """

    until: Until = "done"
    ttl: float = DAY
    key: str | Callable[..., str] | None = None

    def __post_init__(self) -> None:
        if self.until not in get_args(Until):
            raise Invalid(f"bad until {self.until!r} of a unique task: use 'started' or 'done'")
        ttl = plain_number(self.ttl)
        if ttl is None or not 0 < ttl <= LONGEST:
            raise Invalid(f"bad ttl {self.ttl!r} of a unique task: use a number of seconds above 0")
        force_setattr(self, "ttl", ttl)
        if self.key is not None and not callable(self.key):
            force_setattr(self, "key", check_key(self.key))

    def claim(self, task: str, payload: bytes, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None) -> Claim:
        """The claim of a task with this payload; `args` and `kwargs` are passed to a `key` that is a function."""
        return Claim(digest(task, *self._kind(payload, args, kwargs or {})), self.until, self.ttl)

    def _kind(self, payload: bytes, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[str, str]:
        if self.key is None:
            return "arguments", _sorted(payload)
        return "key", check_key(self.key(*args, **kwargs) if callable(self.key) else self.key)


def _sorted(payload: bytes) -> str:
    """Canonical JSON: the order of arguments does not matter."""
    return msgspec.json.encode(msgspec.json.decode(payload), order="sorted").decode()
