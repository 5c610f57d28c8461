"""Prefetch: which tasks a worker may take before it has a free slot, for how long, and which of them starts first."""

import pytest

from stoker.queue.records import Delivery
from stoker.worker.loop.prefetch import MAX_WAIT, SHORT, SLOTS_PER_PREFETCH, Prefetch

SLOTS = 8 * SLOTS_PER_PREFETCH


def delivery(number: int) -> Delivery:
    return Delivery(f"t{number}", f"fence-{number}", b"{}", 0, 0, waited=2.0)


def ahead(*runs: float) -> Prefetch:
    """After runs of so many seconds."""
    kept = Prefetch(SLOTS)
    for seconds in runs:
        kept.observe(seconds)
    return kept


@pytest.mark.parametrize(
    ("runs", "limit"),
    [
        pytest.param((), 0, id="nobody, while nothing is known"),
        pytest.param((0.001,), 8, id="some, where tasks are short"),
        pytest.param((SHORT * 2,), 0, id="nobody, where they are not"),
        pytest.param((0.001, 60), 0, id="nobody, after a long one"),
        pytest.param((60, *[0.001] * 200), 8, id="some, when a long one was long ago"),
    ],
)
def test_how_many_may_wait(runs: tuple[float, ...], limit: int) -> None:
    assert ahead(*runs).limit == limit


def test_a_worker_with_one_slot_prefetches_nothing() -> None:
    kept = Prefetch(1)
    kept.observe(0.001)
    assert kept.limit == 0


def test_first_come_first_started_and_the_wait_is_counted() -> None:
    kept = ahead(0.001)
    kept.add(delivery(1), 10.0)
    kept.add(delivery(2), 10.5)
    first, second = kept.next(11.0), kept.next(11.0)
    assert [(each.id, each.waited) for each in (first, second)] == [("t1", 3.0), ("t2", 2.5)]
    assert not kept


def test_a_prefetched_task_that_waits_too_long_is_released_and_none_follows() -> None:
    kept = ahead(0.001)
    kept.add(delivery(1), 10.0)
    kept.add(delivery(2), 10.5)
    assert kept.expires_at == 10.0 + MAX_WAIT
    assert [each.id for each in kept.expired(10.2 + MAX_WAIT)] == ["t1"]
    assert (len(kept), kept.limit) == (1, 0)


def test_one_may_leave_and_all_may() -> None:
    kept = ahead(0.001)
    for number in range(3):
        kept.add(delivery(number), 0.0)
    left = kept.remove("fence-1")
    assert left is not None
    assert left.id == "t1"
    assert kept.remove("fence-1") is None
    assert [each.id for each in kept.clear()] == ["t0", "t2"]
    assert kept.expires_at is None
