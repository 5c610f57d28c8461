"""Unique tasks: of all that would do the same, only one waits, or waits and runs, at a time.

What "the same" means becomes a digest here; who holds it is decided in Redis, by `enqueue.lua`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from stoker.errors import LONGEST, Invalid
from stoker.rules.message import check_key, digest

DAY = 86400.0


Until = Literal["started", "done"]
"""When the next task of the same kind may be enqueued: the first has started, or it has ended."""


class Claim(msgspec.Struct, frozen=True):
    """What a task holds in its queue. `ttl` in seconds from when it is due; after that another may take it over."""

    digest: str
    until: Until
    ttl: float


class Unique(msgspec.Struct, frozen=True):
    """How a task is unique in its queue. Raises Invalid for values out of range.

    `until` is "started" or "done" (succeeded, dead or cancelled). `ttl`, in seconds from when a task is due, bounds how long
    it can keep others out. `key` says what is the same: a text, a function of the task's arguments that makes one, or nothing
    for the arguments themselves. The task's name always counts.
    """

    until: Until = "done"
    ttl: float = DAY
    key: str | Callable[..., str] | None = None

    def __post_init__(self) -> None:
        if self.until not in get_args(Until):
            raise Invalid(f"bad until {self.until!r} of a unique task: use 'started' or 'done'")
        if not isinstance(self.ttl, int | float) or not 0 < self.ttl <= LONGEST:
            raise Invalid(f"bad ttl {self.ttl!r} of a unique task: use a number of seconds above 0")
        if self.key is not None and not callable(self.key):
            check_key(self.key)

    def claim(self, task: str, payload: bytes, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None) -> Claim:
        """What a task with this payload claims; `args` and `kwargs` are for a `key` that is a function."""
        return Claim(digest(task, *self._kind(payload, args, kwargs or {})), self.until, self.ttl)

    def _kind(self, payload: bytes, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[str, str]:
        if self.key is None:
            return "arguments", _sorted(payload)
        return "key", check_key(self.key(*args, **kwargs) if callable(self.key) else self.key)


def _sorted(payload: bytes) -> str:
    """The same arguments in another order are the same."""
    return msgspec.json.encode(msgspec.json.decode(payload), order="sorted").decode()
