"""The worker's Prometheus metrics. Labels are declared names only: never ids, tenants or pods."""

from functools import cache
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OTHER = "other"
_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600)
_LABELS = ("queue", "task")
_EVENTS = ("started", "succeeded", "failed", "retried", "dead", "cancelled")


class TaskMetrics(NamedTuple):
    """The metrics of one task name, labels already bound: looking labels up costs more than counting."""

    started: Counter
    succeeded: Counter
    failed: Counter
    retried: Counter
    dead: Counter
    cancelled: Counter
    duration: Histogram
    wait: Histogram


class WorkerMetrics:
    """What one worker process exports of one queue."""

    def __init__(self, registry: CollectorRegistry, queue: str, slots: int) -> None:
        self._queue = queue
        self._counters = {
            event: Counter(f"stoker_tasks_{event}", f"Tasks {event} in this worker.", _LABELS, registry=registry)
            for event in _EVENTS
        }
        self._duration = Histogram("stoker_task_duration_seconds", "Time a task ran.", _LABELS, buckets=_BUCKETS, registry=registry)
        self._wait = Histogram(
            "stoker_task_queue_wait_seconds", "Time a task was ready before it ran.", _LABELS, buckets=_BUCKETS, registry=registry
        )
        self.stale = Counter(
            "stoker_stale_settles", "Outcomes refused because the lease had gone to another.", ["queue"], registry=registry
        ).labels(queue)
        self.reclaimed = Counter(
            "stoker_tasks_reclaimed", "Tasks taken back from dead workers by this one.", ["queue"], registry=registry
        ).labels(queue)
        slot_gauge = Gauge("stoker_worker_slots", "Room for tasks in this worker.", ["queue", "state"], registry=registry)
        self._busy, self._free, self._slots = slot_gauge.labels(queue, "busy"), slot_gauge.labels(queue, "free"), slots
        self.slots(0)
        self.lag = Gauge("stoker_worker_event_loop_lag_seconds", "How late the event loop runs what is due.", registry=registry)
        self.of = cache(self._of)

    def slots(self, busy: int) -> None:
        """Say how many slots are busy."""
        self._busy.set(busy)
        self._free.set(max(0, self._slots - busy))

    def _of(self, task: str) -> TaskMetrics:
        """The metrics of a registered task's name, or of `other`."""
        labels = (self._queue, task)
        counters = {name: counter.labels(*labels) for name, counter in self._counters.items()}
        return TaskMetrics(**counters, duration=self._duration.labels(*labels), wait=self._wait.labels(*labels))
