"""A lazy sequence is the list that it would make, and makes no more of it than was asked for."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stoker.client.lazy import Lazy

LOOKS = st.lists(st.one_of(st.integers(-12, 12), st.slices(10)), max_size=6)


def seen(sequence: Any, look: int | slice) -> Any:
    try:
        return sequence[look]
    except IndexError:
        return "no such place"


@given(st.lists(st.integers(), max_size=10), LOOKS)
def test_it_is_the_list(numbers: list[int], looks: list[int | slice]) -> None:
    lazy, eager = Lazy(str, numbers), [str(number) for number in numbers]
    assert [seen(lazy, look) for look in looks] == [seen(eager, look) for look in looks]
    assert (len(lazy), list(lazy), list(reversed(lazy))) == (len(eager), eager, eager[::-1])


@given(st.integers(0, 10), st.integers(0, 10))
def test_each_is_made_when_it_is_wanted_and_once(stop: int, length: int) -> None:
    made: list[int] = []

    def make(number: int) -> list[int]:
        made.append(number)
        return [number]

    lazy = Lazy(make, range(length))
    first = lazy[:stop]
    assert made == list(range(min(stop, length)))
    assert all(one is other for one, other in zip(first, lazy, strict=False))
    assert made == list(range(length))
