"""Tallies and the records made of them: whatever is in Redis, reading it gives counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from stoker.rules.tally import (
    MINUTES,
    MOST_COUNT,
    MOST_NAMES,
    RINGS,
    Ring,
    RunCounts,
    count_of,
    difference,
    periods,
    run_counts,
    total,
    versions,
)

NOW = 1_800_000_000_000
MINUTE = NOW // 60_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["v", "at", "names", "started", "w3", "x"]), inner),
    max_leaves=8,
)


def stored(**fields: Any) -> bytes:
    return msgpack.encode({"v": 1, "at": MINUTE, "names": {}} | fields)


def test_only_what_has_been_added_is_flushed() -> None:
    assert difference({"started": 3, "w1": 2, "r1": 1}, {"started": 1, "w1": 2}) == {"started": 2, "r1": 1}


@pytest.mark.parametrize("ring", RINGS)
def test_a_ring_has_a_field_for_each_period_it_holds(ring: Ring) -> None:
    fields = list(ring.fields(NOW))
    assert len({field for field, _ in fields}) == ring.slots
    assert [number for _, number in fields] == [NOW // ring.seconds // 1000 - age for age in range(ring.slots)]


@pytest.mark.parametrize("ring", RINGS)
def test_a_ring_at_the_beginning_of_time_has_few(ring: Ring) -> None:
    assert list(ring.fields(0)) == [(f"{ring.prefix}0", 0)]


def test_periods_are_read_oldest_first() -> None:
    values = [stored(names={"a": {"started": 2}}), b"", stored(at=MINUTE - 2, names={"b": {"dead": 1}})]
    found = periods(MINUTES, NOW, values)
    assert [(each.at, list(each.tasks)) for each in found] == [((MINUTE - 2) * 60_000, ["b"]), (MINUTE * 60_000, ["a"])]
    assert found[0].all == RunCounts(dead=1)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(stored(v=2), id="of a newer version"),
        pytest.param(stored(at=MINUTE - MINUTES.slots), id="of an earlier round"),
        pytest.param(stored(at=MINUTE + 1), id="of the future"),
        pytest.param(stored(names=[]), id="with names that are none"),
        pytest.param(b"\x91" * 100_000, id="too deep"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(7, id="no bytes"),
        pytest.param(None, id="nothing"),
    ],
)
def test_a_period_that_cannot_be_read_is_left_out(value: object) -> None:
    assert periods(MINUTES, NOW, [value]) == []


def test_a_period_has_no_more_names_than_a_worker_writes() -> None:
    names = {f"task-{number}": {"started": 1} for number in range(1000)}
    [period] = periods(MINUTES, NOW, [stored(names={"x" * 1000: {}, **names})])
    assert len(period.tasks) == MOST_NAMES + 1
    assert "x" * 1000 not in period.tasks


@pytest.mark.parametrize(
    "value",
    [-1, 1.5, float("inf"), float("nan"), 1e300, MOST_COUNT + 1, "3", None, [], {}, b"-1", b"1.5", b"9" * 30, b"\xb2"],
)
def test_what_is_no_count_is_nought(value: object) -> None:
    assert count_of(value) == 0


@given(VALUES)
def test_counts_are_read_from_anything(value: object) -> None:
    counts = run_counts(value)
    assert all(0 <= getattr(counts, name) <= MOST_COUNT for name in ("started", "dead"))
    assert all(count >= 0 for count in counts.wait.buckets.values())


@given(st.lists(VALUES, max_size=4), st.binary(max_size=20))
def test_records_are_read_from_anything(values: list[object], raw: bytes) -> None:
    texts: list[object] = [msgpack.encode(value) for value in values] + [raw]
    assert isinstance(periods(MINUTES, NOW, texts), list)
    assert isinstance(versions([raw, *texts]), list)


def test_versions_are_read_by_first_seen() -> None:
    def record(first: object) -> bytes:
        return msgpack.encode({"v": 1, "first": first, "last": 9, "counts": {"started": 1}})

    found = versions(
        [b"new", record(5), b"old", record(3), b"broken", b"{", b"\xff", record(1), b"newer format", msgpack.encode({"v": 2})]
    )
    assert [(each.version, each.first_seen, each.last_seen) for each in found] == [("old", 3, 9), ("new", 5, 9)]


def test_a_total_adds_up() -> None:
    counts = run_counts({"started": 2, "w1": 2, "wait_ms": 500})
    both = total([counts, counts, RunCounts()])
    assert (both.started, both.wait.buckets, both.wait.total) == (4, {1: 4}, 1.0)
