"""The operator's metrics. Queue gauges come from here alone: workers that export them too would double the sums."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stoker.rules.states import TaskState
from stoker_operator.roster import Entry, Roster

DECISIONS = Counter(
    "stoker_scaling_decisions_total", "Decisions about the number of workers, by their reason.", ["reason"], registry=None
)
RECONCILE_DURATION = Histogram("stoker_reconcile_duration_seconds", "Time to reconcile one TaskQueue.", registry=None)
RECONCILE_ERRORS = Counter(
    "stoker_reconcile_errors_total", "Passes over a TaskQueue that failed and are tried again.", registry=None
)
_LABELS = ["namespace", "queue"]
RECLAIMED = Counter("stoker_tasks_reclaimed_total", "Tasks taken back from pods that have ended.", _LABELS, registry=None)


def registry(roster: Roster) -> CollectorRegistry:
    """Everything on /metrics."""
    found = CollectorRegistry()
    for metric in (DECISIONS, RECLAIMED, RECONCILE_DURATION, RECONCILE_ERRORS, Queues(roster)):
        found.register(metric)
    return found


class Queues(Collector):
    """The last reading of every queue, at the moment of the scrape: a queue that is gone leaves no series behind."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def collect(self) -> Iterator[Metric]:
        desired = GaugeMetricFamily("stoker_scaling_desired_replicas", "Workers wanted.", labels=_LABELS)
        reachable = GaugeMetricFamily("stoker_redis_reachable", "1 where the queue's Redis answers.", labels=_LABELS)
        tasks = GaugeMetricFamily("stoker_queue_tasks", "Tasks by state.", labels=[*_LABELS, "state"])
        parked = GaugeMetricFamily("stoker_queue_parked_tasks", "Ready tasks whose concurrency key is full.", labels=_LABELS)
        oldest = GaugeMetricFamily(
            "stoker_queue_oldest_ready_age_seconds", "How long the oldest ready task has waited.", labels=_LABELS
        )
        paused = GaugeMetricFamily("stoker_queue_paused", "1 where a person has paused the queue.", labels=_LABELS)
        deduplicated = CounterMetricFamily(
            "stoker_deduplicated",
            "Enqueues dropped because a task with the same unique claim waits or runs.",
            labels=_LABELS,
        )
        for entry in self._roster.entries.values():
            if entry.findings.queue is None or not entry.findings.readable:
                continue
            labels = [entry.ref.namespace, entry.findings.queue.queue]
            desired.add_metric(labels, _desired(entry))
            reachable.add_metric(labels, entry.reading.stats is not None)
            if (stats := entry.reading.stats) is not None:  # unknown is not zero: no sample rather than an old one
                for state in TaskState:
                    tasks.add_metric([*labels, state], getattr(stats, state))
                parked.add_metric(labels, stats.parked)
                oldest.add_metric(labels, stats.oldest_wait)
                paused.add_metric(labels, stats.paused)
                deduplicated.add_metric(labels, stats.totals.deduplicated)
        yield from (desired, reachable, tasks, parked, oldest, paused, deduplicated)


def _desired(entry: Entry) -> int:
    if entry.scaling is not None and entry.findings.scalable:
        return entry.scaling.desired
    return entry.findings.workers.replicas if entry.findings.workers else 0
