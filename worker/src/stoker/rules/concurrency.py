"""Concurrency keys: at most `limit` tasks with the same key run at a time in a queue; the others are parked until one ends.

The key of a task is computed here, when it is enqueued; `fetch.lua` decides which tasks may run.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import force_setattr

from stoker.errors import Invalid
from stoker.rules.message import check_key
from stoker.rules.plain import plain_int

MOST = 1000


class Limit(msgspec.Struct, frozen=True):
    """The concurrency key of one task, and how many tasks with that key may run at a time."""

    key: str
    most: int


class Concurrency(msgspec.Struct, frozen=True):
    """How many tasks with one key may run at a time. Raises Invalid for values out of range.

    `key` is a string in which `{name}` is replaced by the argument of that name, or a function of the task's arguments. Keys are
    shared by all tasks of a queue, whatever their names.
    """

    key: str | Callable[..., str]
    limit: int = 1

    def __post_init__(self) -> None:
        limit = plain_int(self.limit)
        if limit is None or not 1 <= limit <= MOST:
            raise Invalid(f"bad limit {self.limit!r} of a concurrency key: use a whole number within 1..{MOST}")
        force_setattr(self, "limit", limit)
        if not callable(self.key):
            force_setattr(self, "key", check_key(self.key))

    def of(self, named: Mapping[str, object], args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None) -> Limit:
        """The limit of a task with these arguments, by name for a template, as passed for a function. Raises Invalid."""
        if callable(self.key):
            return Limit(check_key(self.key(*args, **(kwargs or {}))), self.limit)
        try:
            return Limit(check_key(self.key.format_map(named)), self.limit)
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise Invalid(f"the concurrency key {self.key!r} does not fit the arguments: {error!r}") from error
