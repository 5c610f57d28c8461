"""The rate limit as arithmetic: never more than the burst and what the rate adds, and nobody waits for ever."""

from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rate_meter import Meter, allowed, let_go, wait_for

RATES = st.one_of(st.integers(1, 20), st.integers(1, 1_000_000))
BURSTS = st.one_of(st.integers(1, 10), st.integers(1, 1_000_000))
VISITS = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 50)), max_size=20)
"""After so many ms a worker comes that has room for so many."""
YESTERDAY = 1_800_000_000_000


def let_through(per_second: int, burst: int, visits: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """When, and how many tasks started."""
    now, meter, told = YESTERDAY, Meter(), []
    for pause, room in visits:
        now += pause
        tasks = min(room, allowed(per_second, burst, meter, now))
        meter = let_go(per_second, meter, tasks, now)
        told.append((now, tasks))
    return told


@settings(deadline=None)
@given(per_second=RATES, burst=BURSTS, visits=VISITS)
def test_no_window_sees_more_than_the_burst_and_the_rate(per_second: int, burst: int, visits: list[tuple[int, int]]) -> None:
    told = let_through(per_second, burst, visits)
    for first, (begin, _) in enumerate(told):
        for (end, _), started in zip(told[first:], accumulate(tasks for _, tasks in told[first:]), strict=True):
            assert started <= burst + Fraction(per_second * (end - begin), 1000)


@settings(deadline=None)
@given(per_second=RATES, burst=BURSTS, visits=VISITS)
def test_it_lets_go_what_the_theoretical_arrival_time_does(per_second: int, burst: int, visits: list[tuple[int, int]]) -> None:
    """The virtual scheduling form of ITU-T I.371, one task after another, in exact fractions."""
    increment, arrival, now = Fraction(1000, per_second), Fraction(0), YESTERDAY
    for (pause, room), (_, started) in zip(visits, let_through(per_second, burst, visits), strict=True):
        now += pause
        conforming = 0
        while conforming < room and arrival <= now + (burst - 1) * increment:
            arrival = max(arrival, Fraction(now)) + increment
            conforming += 1
        assert started == conforming


@settings(deadline=None)
@given(per_second=RATES, burst=BURSTS, visits=VISITS, tasks=st.integers(1, 100))
def test_a_worker_that_comes_back_in_time_finds_as_many_as_announced(
    per_second: int, burst: int, visits: list[tuple[int, int]], tasks: int
) -> None:
    now, meter, tasks = YESTERDAY, Meter(), min(tasks, burst)
    for pause, room in visits:
        now += pause
        meter = let_go(per_second, meter, min(room, allowed(per_second, burst, meter, now)), now)
    wait = wait_for(per_second, burst, meter, tasks, now)
    assert allowed(per_second, burst, meter, now + wait) >= tasks
    assert wait == 0 or allowed(per_second, burst, meter, now + wait - 1) < tasks, "and could not have come sooner"


@pytest.mark.parametrize(
    ("meter", "now", "tasks"),
    [
        pytest.param(Meter(), 1000, 5, id="a new queue has its whole burst"),
        pytest.param(Meter(5000, 1000), 1000, 0, id="used up"),
        pytest.param(Meter(5000, 1000), 1099, 0, id="a tenth of a second is not over"),
        pytest.param(Meter(5000, 1000), 1100, 1, id="after a tenth of a second the next may go"),
        pytest.param(Meter(5000, 1000), 9000, 5, id="quiet time saves up no more than the burst"),
        pytest.param(Meter(50_000, 1000), 1000, 0, id="a burst that was larger yesterday is paid back"),
    ],
)
def test_ten_a_second_and_five_at_once(meter: Meter, now: int, tasks: int) -> None:
    assert allowed(10, 5, meter, now) == tasks
