"""A sequence whose elements are made when they are first read."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, overload

A = TypeVar("A")
T = TypeVar("T")


class Lazy(Sequence[T]):
    """`make` of each of these, in order, each once: a second read, as for a retry, returns the same element."""

    def __init__(self, make: Callable[[A], T], of: Sequence[A]) -> None:
        self._length = len(of)
        self._made: list[T] = []
        self._rest = map(make, of)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        wanted = range(self._length)[at]
        if isinstance(wanted, int):
            self._make(wanted + 1)
            return self._made[wanted]
        self._make(max(wanted, default=-1) + 1)
        return [self._made[index] for index in wanted]

    def __iter__(self) -> Iterator[T]:
        self._make(self._length)
        return iter(self._made)

    def _make(self, count: int) -> None:
        """Make the first `count` elements."""
        self._made += islice(self._rest, max(0, count - len(self._made)))
