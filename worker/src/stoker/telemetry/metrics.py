"""The worker's Prometheus metrics. Labels are declared names only: never ids, tenants or pods."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

OTHER = "other"
_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600)
_EDGES = [*(str(float(bound)) for bound in _BUCKETS), "+Inf"]
_LABELS = ("queue", "task")
_EVENTS = ("started", "succeeded", "failed", "retried", "dead", "cancelled", "snoozed")
_TIMES = {
    "duration": ("stoker_task_duration_seconds", "Time a task ran."),
    "wait": ("stoker_task_queue_wait_seconds", "Time a task was ready before it ran."),
}


class Times:
    """A histogram of seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_EDGES)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(_BUCKETS, seconds)] += 1
        self.total += seconds


class Tally:
    """What is counted of one task name, as plain numbers: prometheus_client's own metrics cost more than the rest of a run."""

    __slots__ = (*_EVENTS, *_TIMES)

    def __init__(self) -> None:
        self.started = self.succeeded = self.failed = self.retried = self.dead = self.cancelled = self.snoozed = 0
        self.duration, self.wait = Times(), Times()


class TaskCollector(Collector):
    """Turns tallies into metrics when somebody looks."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._tallies: dict[str, Tally] = {}

    def of(self, task: str) -> Tally:
        """The tally of a registered task's name, or of `other`."""
        if task not in self._tallies:
            self._tallies[task] = Tally()
        return self._tallies[task]

    def collect(self) -> Iterator[Metric]:
        """All counters and histograms."""
        tallies = [((self._queue, task), tally) for task, tally in self._tallies.copy().items()]
        for event in _EVENTS:
            counter = CounterMetricFamily(f"stoker_tasks_{event}", f"Tasks {event} in this worker.", labels=_LABELS)
            for labels, tally in tallies:
                counter.add_metric(labels, getattr(tally, event))
            yield counter
        for field, (name, text) in _TIMES.items():
            histogram = HistogramMetricFamily(name, text, labels=_LABELS)
            for labels, tally in tallies:
                times: Times = getattr(tally, field)
                histogram.add_metric(labels, list(zip(_EDGES, accumulate(times.counts), strict=True)), times.total)
            yield histogram


class WorkerMetrics:
    """What one worker process exports of one queue."""

    def __init__(self, registry: CollectorRegistry, queue: str, slots: int) -> None:
        self.tasks = TaskCollector(queue)
        registry.register(self.tasks)
        self.stale = Counter(
            "stoker_stale_settles", "Outcomes refused because the lease had gone to another.", ["queue"], registry=registry
        ).labels(queue)
        self.reclaimed = Counter(
            "stoker_tasks_reclaimed", "Tasks taken back from dead workers by this one.", ["queue"], registry=registry
        ).labels(queue)
        slot_gauge = Gauge("stoker_worker_slots", "Room for tasks in this worker.", ["queue", "state"], registry=registry)
        self._busy, self._free, self._slots = slot_gauge.labels(queue, "busy"), slot_gauge.labels(queue, "free"), slots
        self._busy_at: dict[str, int] = {}
        self.slots(0, queue)
        self.lag = Gauge("stoker_worker_event_loop_lag_seconds", "How late the event loop runs what is due.", registry=registry)

    def slots(self, at_place: int, place: str) -> None:
        """Say how many slots are busy with tasks of one partition."""
        self._busy_at[place] = at_place
        busy = sum(self._busy_at.values())
        self._busy.set(busy)
        self._free.set(max(0, self._slots - busy))
