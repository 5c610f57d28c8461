"""Estimates of a queue: arrival rate, service time, pod start-up. Pure: samples in, estimates out; times in seconds.

Arrival rate: two exponential averages of the growth of the counter of enqueued tasks, the faster for growth, the slower for
decline. Service time: occupied slot-seconds by finished runs, which is the estimate of greatest likelihood for exponential times
of which some are still running (Epstein and Sobel 1953), with a prior worth a few runs. Start-up: a high percentile of the latest
starts, each from the request for the pod to its readiness.
"""

from bisect import bisect_left
from math import ceil

from msgspec import Struct

FAST, SLOW = 10.0, 60.0
"""Half-lives of the two arrival rates."""
PRIOR_RUNS = 4.0
"""How many runs the prior service time is worth."""
MEMORY, MEMORY_RUNS = 60.0, 4.0
"""Half-life of the service time: at least so long, and so many service times."""
FIRST_STARTUP = 10.0
"""Start-up of a pod before one was seen."""
STARTS_KEPT, PERCENTILE = 20, 0.8
POINTS = 64
"""Points of the history of arrivals: one a second first, fewer the longer it goes back."""


class Sample(Struct, frozen=True):
    """What is observed of a queue at a moment. `enqueued` and `finished` are counters since its first use; `replicas` requested."""

    enqueued: int = 0
    finished: int = 0
    running: int = 0
    replicas: int = 0
    ready_replicas: int = 0


class Estimates(Struct, frozen=True):
    """The estimates and what they are continued from.

    `fast`, `slow`: tasks a second. `occupied` slot-seconds and `runs`, both decayed. `requested`: when each pod that is not ready
    was. `starts`: seconds that the latest pods took. `arrivals`: moments, and the counter of enqueued tasks at each.
    """

    at: float
    sample: Sample
    fast: float
    slow: float
    occupied: float
    runs: float
    requested: tuple[float, ...] = ()
    starts: tuple[float, ...] = ()
    arrivals: tuple[tuple[float, int], ...] = ()

    @property
    def rate(self) -> float:
        """Tasks a second: the faster estimate while it is higher."""
        return max(self.fast, self.slow)

    @property
    def service_time(self) -> float:
        """Average seconds of a run."""
        return self.occupied / self.runs

    @property
    def startup(self) -> float:
        """Seconds from the request for a pod to its readiness, which four of five pods do not exceed."""
        ordered = sorted(self.starts)
        return ordered[ceil(PERCENTILE * len(ordered)) - 1] if ordered else FIRST_STARTUP

    def enqueued_at(self, number: float) -> float:
        """About when the counter of enqueued tasks had this value."""
        at = bisect_left(self.arrivals, number, key=lambda point: point[1])
        if at == 0:
            return self.arrivals[0][0]
        if at == len(self.arrivals):
            return self.at
        (begin, low), (end, high) = self.arrivals[at - 1], self.arrivals[at]
        return begin + (end - begin) * (number - low) / (high - low)


def first_estimates(sample: Sample, service_time: float, now: float) -> Estimates:
    """Those from a first look. `service_time`: the prior."""
    return Estimates(now, sample, 0.0, 0.0, service_time * PRIOR_RUNS, PRIOR_RUNS, arrivals=((now, sample.enqueued),))


def observe(last: Estimates, sample: Sample, now: float) -> Estimates | None:
    """The estimates after one more look; None if a counter went back: another Redis, or one that lost data."""
    before, passed = last.sample, now - last.at
    if sample.enqueued < before.enqueued or sample.finished < before.finished:
        return None
    if passed <= 0:
        return last
    rate = (sample.enqueued - before.enqueued) / passed
    kept = 1.0
    if sample.running or sample.finished > before.finished:
        kept = 0.5 ** (passed / max(MEMORY, MEMORY_RUNS * last.service_time))
    requested, starts = _starts(last, sample, now)
    return Estimates(
        now,
        sample,
        last.fast + (1 - 0.5 ** (passed / FAST)) * (rate - last.fast),
        last.slow + (1 - 0.5 ** (passed / SLOW)) * (rate - last.slow),
        last.occupied * kept + (sample.running + before.running) / 2 * passed,
        max(last.runs * kept + sample.finished - before.finished, 1e-6),
        requested,
        starts,
        _arrivals(last.arrivals, now, sample.enqueued),
    )


def _starts(last: Estimates, sample: Sample, now: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Pods get ready in the order in which they were requested; what is taken back was requested last."""
    requested = last.requested + (last.at,) * (sample.replicas - last.sample.replicas)
    ready = min(max(sample.ready_replicas - last.sample.ready_replicas, 0), len(requested))
    starts = last.starts + tuple(now - moment for moment in requested[:ready])
    missing = max(sample.replicas - sample.ready_replicas, 0)
    return requested[ready:][:missing], starts[-STARTS_KEPT:]


def _arrivals(points: tuple[tuple[float, int], ...], now: float, enqueued: int) -> tuple[tuple[float, int], ...]:
    if len(points) > 1 and points[-1][1] == points[-2][1] == enqueued:
        points = points[:-1]  # nothing came: the last point moves
    if len(points) >= POINTS:
        points = points[: POINTS // 2 : 2] + points[POINTS // 2 :]
    return (*points, (now, enqueued))
