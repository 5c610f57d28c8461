"""The worker's Prometheus metrics. Labels are declared names only: never ids, tenants or pods. A queue is (namespace, queue)."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from stoker.rules.buckets import BOUNDS, bucket_of
from stoker.rules.identity import QueueId
from stoker.rules.tally import COUNTERS

BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600)
_EDGES = [*(str(float(bound)) for bound in BUCKETS), "+Inf"]
_ENDS = [*(bucket_of(bound) for bound in BUCKETS), len(BOUNDS)]
"""The last bucket of BOUNDS within each of the page's."""
_QUEUE = ("namespace", "queue")
_LABELS = (*_QUEUE, "task")
_EVENTS = ("started", "succeeded", "failed", "retried", "dead", "cancelled", "snoozed")
_TIMES = {
    "duration": ("stoker_task_duration_seconds", "Time a task ran."),
    "wait": ("stoker_task_queue_wait_seconds", "Time a task was ready before it ran."),
}


class Times:
    """A histogram of seconds, in the buckets of the records in Redis; the page shows fewer."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        self.counts[bucket_of(seconds)] += 1
        self.total += seconds

    @property
    def cumulative(self) -> Sequence[int]:
        """Durations up to each edge of the page's buckets."""
        sums = list(accumulate(self.counts))
        return [sums[end] for end in _ENDS]


class TaskCounts:
    """Counts of one task name, as plain numbers: prometheus_client's metrics cost more than the rest of a run."""

    __slots__ = (*_EVENTS, "released", *_TIMES)

    def __init__(self) -> None:
        self.started = self.succeeded = self.failed = self.retried = self.dead = self.cancelled = self.snoozed = self.released = 0
        self.duration, self.wait = Times(), Times()

    @property
    def tally(self) -> dict[str, int]:
        """All of it in the names of rules/tally.py, without zeros."""
        counts = {name: getattr(self, name) for name in COUNTERS}
        for letter, times, sum_ms in (("w", self.wait, "wait_ms"), ("r", self.duration, "run_ms")):
            counts |= {f"{letter}{number}": count for number, count in enumerate(times.counts) if count}
            counts[sum_ms] = round(times.total * 1000)
        return {name: count for name, count in counts.items() if count}


class SloCounts:
    """Runs that started, and those that had waited at most `max_wait` seconds (below 0: unknown, or none is set)."""

    __slots__ = ("in_time", "max_wait", "started")

    def __init__(self) -> None:
        self.max_wait = -1.0
        self.started = self.in_time = 0


class TaskCollector:
    """What a worker counts of the runs of one queue."""

    def __init__(self, queue: QueueId) -> None:
        self.slo = SloCounts()
        self.queue = queue
        self.counts: dict[str, TaskCounts] = {}

    def of(self, task: str) -> TaskCounts:
        """The counts of a registered task's name, or of `other`."""
        if task not in self.counts:
            self.counts[task] = TaskCounts()
        return self.counts[task]

    def tallies(self) -> dict[str, dict[str, int]]:
        """Task name -> all that was counted since the process began."""
        return {task: counts.tally for task, counts in self.counts.items()}


class ProcessMetrics(Collector):
    """The metrics of a worker process, of all its queues. Turns counts into metrics when the page is read."""

    def __init__(self, registry: CollectorRegistry, slots: int) -> None:
        self.slots = slots
        self.stale = Counter("stoker_stale_settles", "Outcomes refused because the lease was lost.", _QUEUE, registry=registry)
        self.reclaimed = Counter(
            "stoker_tasks_reclaimed", "Tasks that this worker took back from dead ones.", _QUEUE, registry=registry
        )
        self.slot_gauge = Gauge("stoker_worker_slots", "Task slots of this worker.", [*_QUEUE, "state"], registry=registry)
        self.lag = Gauge("stoker_worker_event_loop_lag_seconds", "Delay of the event loop.", registry=registry)
        self.queues: list[WorkerMetrics] = []
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """All counters and histograms."""
        tasks = [each.tasks for each in self.queues]
        counts = [((*each.queue, task), counted) for each in tasks for task, counted in each.counts.copy().items()]
        for event in _EVENTS:
            counter = CounterMetricFamily(f"stoker_tasks_{event}", f"Tasks {event} in this worker.", labels=_LABELS)
            for labels, counted in counts:
                counter.add_metric(labels, getattr(counted, event))
            yield counter
        for field, (name, text) in _TIMES.items():
            histogram = HistogramMetricFamily(name, text, labels=_LABELS)
            for labels, counted in counts:
                times: Times = getattr(counted, field)
                histogram.add_metric(labels, list(zip(_EDGES, times.cumulative, strict=True)), times.total)
            yield histogram

    def show_slots(self) -> None:
        """Set the gauges of all queues: they share the slots, so each shows all that are free."""
        free = max(0, self.slots - sum(each.busy for each in self.queues))
        for each in self.queues:
            each.busy_gauge.set(each.busy)
            each.free_gauge.set(free)


class WorkerMetrics:
    """The metrics of one queue in a worker process."""

    def __init__(self, registry: CollectorRegistry, queue: QueueId, slots: int, process: ProcessMetrics | None = None) -> None:
        self.process = process = process or ProcessMetrics(registry, slots)
        self.tasks = TaskCollector(queue)
        self.stale = process.stale.labels(*queue)
        self.reclaimed = process.reclaimed.labels(*queue)
        self.lag = process.lag
        self.busy_gauge, self.free_gauge = (process.slot_gauge.labels(*queue, state) for state in ("busy", "free"))
        self.busy = 0
        self._busy_at: dict[str, int] = {}
        process.queues.append(self)
        self.slots(0, queue.name)

    def slots(self, busy_here: int, partition: str) -> None:
        """Set how many slots run tasks of this partition."""
        self._busy_at[partition] = busy_here
        busy = sum(self._busy_at.values())
        if busy != self.busy or not busy:
            self.busy = busy
            self.process.show_slots()
