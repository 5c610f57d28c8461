"""The worker's Prometheus metrics. Labels are declared names only: never ids, tenants or pods. A queue is (namespace, queue)."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from stoker.rules.identity import QueueId

OTHER = "other"
_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600)
_EDGES = [*(str(float(bound)) for bound in _BUCKETS), "+Inf"]
_QUEUE = ("namespace", "queue")
_LABELS = (*_QUEUE, "task")
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
        """Add one duration."""
        self.counts[bisect_left(_BUCKETS, seconds)] += 1
        self.total += seconds


class TaskCounts:
    """Counts of one task name, as plain numbers: prometheus_client's metrics cost more than the rest of a run."""

    __slots__ = (*_EVENTS, *_TIMES)

    def __init__(self) -> None:
        self.started = self.succeeded = self.failed = self.retried = self.dead = self.cancelled = self.snoozed = 0
        self.duration, self.wait = Times(), Times()


class TaskCollector(Collector):
    """Turns the counts into metrics when the page is read."""

    def __init__(self, queue: QueueId) -> None:
        self._queue = queue
        self._counts: dict[str, TaskCounts] = {}

    def of(self, task: str) -> TaskCounts:
        """The counts of a registered task's name, or of `other`."""
        if task not in self._counts:
            self._counts[task] = TaskCounts()
        return self._counts[task]

    def collect(self) -> Iterator[Metric]:
        """All counters and histograms."""
        counts = [((*self._queue, task), counted) for task, counted in self._counts.copy().items()]
        for event in _EVENTS:
            counter = CounterMetricFamily(f"stoker_tasks_{event}", f"Tasks {event} in this worker.", labels=_LABELS)
            for labels, counted in counts:
                counter.add_metric(labels, getattr(counted, event))
            yield counter
        for field, (name, text) in _TIMES.items():
            histogram = HistogramMetricFamily(name, text, labels=_LABELS)
            for labels, counted in counts:
                times: Times = getattr(counted, field)
                histogram.add_metric(labels, list(zip(_EDGES, accumulate(times.counts), strict=True)), times.total)
            yield histogram


class WorkerMetrics:
    """The metrics of one worker process."""

    def __init__(self, registry: CollectorRegistry, queue: QueueId, slots: int) -> None:
        self.tasks = TaskCollector(queue)
        registry.register(self.tasks)
        self.stale = Counter(
            "stoker_stale_settles", "Outcomes refused because the lease was lost.", _QUEUE, registry=registry
        ).labels(*queue)
        self.reclaimed = Counter(
            "stoker_tasks_reclaimed", "Tasks that this worker took back from dead ones.", _QUEUE, registry=registry
        ).labels(*queue)
        slot_gauge = Gauge("stoker_worker_slots", "Task slots of this worker.", [*_QUEUE, "state"], registry=registry)
        self._busy, self._free, self._slots = slot_gauge.labels(*queue, "busy"), slot_gauge.labels(*queue, "free"), slots
        self._busy_at: dict[str, int] = {}
        self.slots(0, queue.name)
        self.lag = Gauge("stoker_worker_event_loop_lag_seconds", "Delay of the event loop.", registry=registry)

    def slots(self, busy_here: int, partition: str) -> None:
        """Set how many slots run tasks of this partition."""
        self._busy_at[partition] = busy_here
        busy = sum(self._busy_at.values())
        self._busy.set(busy)
        self._free.set(max(0, self._slots - busy))
