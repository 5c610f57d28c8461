"""The operator's metrics. Queue gauges are exported here only: exported by the workers too, sums would double."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stoker.rules.states import TaskState
from stoker_operator.state.queue_store import QueueStore

_LABELS = ["namespace", "queue"]
LEADER = Gauge("stoker_operator_leader", "1 if this operator works, 0 if it stands by.", registry=None)
DECISIONS = Counter("stoker_scaling_decisions_total", "Scaling decisions by reason.", ["reason"], registry=None)
RECONCILE_DURATION = Histogram("stoker_reconcile_duration_seconds", "Duration of one reconcile of a TaskQueue.", registry=None)
RECONCILE_ERRORS = Counter("stoker_reconcile_errors_total", "Reconciles that failed and are retried.", registry=None)
WATCH_RESTARTS = Counter("stoker_watch_restarts_total", "Restarts of all watches: one had ended or was deaf.", registry=None)
CONFIG_INTERVAL = Gauge(
    "stoker_config_poll_interval_seconds",
    "Interval between two looks at one Secret or ConfigMap that pods read. It grows where the rate allows no more.",
    registry=None,
)
RECLAIMED = Counter("stoker_tasks_reclaimed_total", "Running tasks taken back from ended pods.", _LABELS, registry=None)


def registry(store: QueueStore) -> CollectorRegistry:
    """Everything on /metrics."""
    found = CollectorRegistry()
    own = (LEADER, CONFIG_INTERVAL, DECISIONS, RECLAIMED, RECONCILE_DURATION, RECONCILE_ERRORS, WATCH_RESTARTS)
    for metric in (*own, QueueCollector(store)):
        found.register(metric)
    return found


class QueueCollector(Collector):
    """The last reading of every queue at the time of the scrape: a deleted queue leaves no series behind."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        desired = GaugeMetricFamily("stoker_scaling_desired_replicas", "Worker replicas desired.", labels=_LABELS)
        reachable = GaugeMetricFamily("stoker_redis_reachable", "1 if the queue's Redis can be read, else 0.", labels=_LABELS)
        tasks = GaugeMetricFamily("stoker_queue_tasks", "Tasks by state.", labels=[*_LABELS, "state"])
        parked = GaugeMetricFamily("stoker_queue_parked_tasks", "Ready tasks whose concurrency key is full.", labels=_LABELS)
        unclaimed = GaugeMetricFamily(
            "stoker_queue_unclaimed_tasks", "Ready tasks whose name no live worker knows.", labels=_LABELS
        )
        oldest = GaugeMetricFamily("stoker_queue_oldest_ready_age_seconds", "Age of the oldest ready task.", labels=_LABELS)
        paused = GaugeMetricFamily("stoker_queue_paused", "1 if the queue is paused, else 0.", labels=_LABELS)
        deduplicated = CounterMetricFamily(
            "stoker_deduplicated", "Enqueues that made no task because another holds the unique key.", labels=_LABELS
        )
        for queue in self._store.all():
            if (source := queue.findings.source) is None:
                continue
            labels = [queue.ref.namespace, source.manifest.queue]
            desired.add_metric(labels, queue.snapshot.desired_replicas)
            reachable.add_metric(labels, queue.reading.stats is not None)
            if (stats := queue.reading.stats) is not None:  # unknown is not zero: no sample rather than an old one
                for state in TaskState:
                    tasks.add_metric([*labels, state], getattr(stats, state))
                parked.add_metric(labels, stats.parked)
                unclaimed.add_metric(labels, stats.unclaimed)
                oldest.add_metric(labels, stats.oldest_wait)
                paused.add_metric(labels, stats.paused)
                deduplicated.add_metric(labels, stats.totals.deduplicated)
        yield from (desired, reachable, tasks, parked, unclaimed, oldest, paused, deduplicated)
