"""Histograms of durations: fixed buckets, so that those of all workers and minutes can be added up, and quantiles of the sum."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from math import sqrt
from typing import TypeVar

import msgspec

K = TypeVar("K")

_DECADE = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
BOUNDS: tuple[float, ...] = (
    *(round(step * 10**power, 10) for power in (-4, -3, -2, -1, 0) for step in _DECADE),
    *(10, 12.5, 15, 18, 22, 26, 30, 36, 44, 52, 60, 75, 90, 110, 135, 165, 200, 240, 300, 360, 440, 520, 600, 750, 900, 1100, 1300),
    *(1500, 1800, 2200, 2700, 3200, 3600, 4500, 5400, 6600, 8000, 10000, 12500, 15750, 20000, 25000, 31500, 40000, 50000, 63000),
    *(80000, 100000),
)
"""Upper bounds of the buckets in seconds, inclusive: 0.1 ms to 28 h, and one bucket beyond.

Each is at most 1.28 times the one before. Those of the metrics page are a subset.
"""
RELATIVE_ERROR = max(sqrt(above / below) for below, above in pairwise(BOUNDS)) - 1
"""Largest relative error of a quantile between 0.1 ms and 28 h: 13 %. Shorter ones read 0.1 ms, longer ones 28 h."""


def bucket_of(seconds: float) -> int:
    """The number of the bucket of a duration: 0 to len(BOUNDS)."""
    return bisect_left(BOUNDS, seconds)


class Histogram(msgspec.Struct, frozen=True):
    """Number of durations per bucket (absent = 0), and their sum in seconds."""

    buckets: dict[int, int] = {}
    total: float = 0.0

    @property
    def count(self) -> int:
        """How many durations."""
        return sum(self.buckets.values())

    @property
    def mean(self) -> float | None:
        """Average seconds; None without any."""
        count = self.count
        return self.total / count if count else None

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that this share (0..1) does not exceed, within RELATIVE_ERROR; None without any.

        The nearest-rank quantile's bucket, of which this is the geometric mean: the value whose largest relative error is least.
        """
        numbers = sorted(number for number, count in self.buckets.items() if count > 0)
        wanted = max(1.0, min(1.0, max(0.0, share)) * self.count)
        ends = accumulate(self.buckets[number] for number in numbers)
        return next((_middle(number) for number, end in zip(numbers, ends, strict=True) if end >= wanted), None)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The sum of several histograms."""
    buckets: dict[int, int] = {}
    total = 0.0
    for histogram in histograms:
        add_counts(buckets, histogram.buckets)
        total += histogram.total
    return Histogram(buckets, total)


def add_counts(sums: dict[K, int], counts: Mapping[K, int]) -> None:
    """Add to each sum."""
    for key, count in counts.items():
        sums[key] = sums.get(key, 0) + count


def _middle(number: int) -> float:
    if number == 0:
        return BOUNDS[0]
    if number >= len(BOUNDS):
        return BOUNDS[-1]
    return sqrt(BOUNDS[number - 1] * BOUNDS[number])
