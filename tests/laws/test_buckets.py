"""Histograms of durations: what a quantile read from them may be off by."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.rules.buckets import BOUNDS, RELATIVE_ERROR, Histogram, bucket_of, merged
from stoker.telemetry.metrics import BUCKETS

DURATIONS = st.lists(st.floats(BOUNDS[0], BOUNDS[-1]), min_size=1, max_size=50)


def histogram(*durations: float) -> Histogram:
    buckets: dict[int, int] = {}
    for seconds in durations:
        buckets[bucket_of(seconds)] = buckets.get(bucket_of(seconds), 0) + 1
    return Histogram(buckets, sum(durations))


def test_each_bound_is_near_the_one_before() -> None:
    assert all(1 < above / below <= 1.28 for below, above in pairwise(BOUNDS))
    assert pytest.approx(0.131, abs=0.001) == RELATIVE_ERROR


def test_the_metrics_page_groups_whole_buckets() -> None:
    assert set(BUCKETS) <= set(BOUNDS)


@given(DURATIONS, st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_the_error(durations: list[float], share: float) -> None:
    exact = sorted(durations)[max(0, math.ceil(share * len(durations)) - 1)]
    read = histogram(*durations).quantile(share)
    assert read is not None
    assert abs(read - exact) / exact <= RELATIVE_ERROR * 1.000001


@given(DURATIONS, DURATIONS)
def test_merged_histograms_are_that_of_all_durations(some: list[float], others: list[float]) -> None:
    both, all_of_them = merged([histogram(*some), histogram(*others)]), histogram(*some, *others)
    assert both.buckets == all_of_them.buckets
    assert both.total == pytest.approx(all_of_them.total)


@pytest.mark.parametrize(("seconds", "reads"), [(0.0, BOUNDS[0]), (1e-9, BOUNDS[0]), (1e9, BOUNDS[-1])])
def test_beyond_the_bounds_a_quantile_reads_the_bound(seconds: float, reads: float) -> None:
    assert histogram(seconds).quantile(0.5) == reads


def test_nothing_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram().mean is None


def test_a_mean_is_exact() -> None:
    durations = [random.Random(1).uniform(0, 10) for _ in range(100)]
    assert histogram(*durations).mean == pytest.approx(sum(durations) / 100)
