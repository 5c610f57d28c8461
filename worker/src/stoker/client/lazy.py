"""A sequence whose elements are made when somebody first wants them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, overload

A = TypeVar("A")
T = TypeVar("T")


class Lazy(Sequence[T]):
    """`make` of each of these, in order, once: whoever looks again, as for another try, sees the same ones."""

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
        places = range(self._length)[at]
        if isinstance(places, int):
            self._make(places + 1)
            return self._made[places]
        self._make(max(places, default=-1) + 1)
        return [self._made[place] for place in places]

    def __iter__(self) -> Iterator[T]:
        self._make(self._length)
        return iter(self._made)

    def _make(self, count: int) -> None:
        """So many of the first."""
        self._made += islice(self._rest, max(0, count - len(self._made)))
