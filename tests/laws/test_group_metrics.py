"""Metrics of several worker processes as one page: what Prometheus concludes from the sums is true."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stoker.rules.identity import QueueId
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.group.group_metrics import SummedMetrics


def page(done: int, *, busy: int = 0, lag: float = 0.0) -> str:
    """What a process with four slots says that has done so many tasks of half a second."""
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry, QueueId("stoker", "emails"), 4)
    tally = metrics.tasks.of("send")
    tally.succeeded = done
    for _ in range(done):
        tally.duration.observe(0.5)
    metrics.slots(busy, "emails")
    metrics.lag.set(lag)
    return generate_latest(registry).decode()


def read(sums: SummedMetrics) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(sums)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        sample.name
        + "".join(f" {value}" for name, value in sorted(sample.labels.items()) if name not in ("namespace", "queue")): sample.value
        for family in families
        for sample in family.samples
    }


def test_counters_histograms_and_gauges_are_added_up() -> None:
    sums = SummedMetrics(2)
    sums.update(0, "first", page(3, busy=1))
    sums.update(1, "second", page(4, busy=2))
    read_back = read(sums)
    assert read_back["stoker_tasks_succeeded_total send"] == 7
    assert read_back["stoker_task_duration_seconds_count send"] == 7
    assert read_back["stoker_task_duration_seconds_sum send"] == 3.5
    assert read_back["stoker_task_duration_seconds_bucket 0.25 send"] == 0
    assert read_back["stoker_task_duration_seconds_bucket 0.5 send"] == 7
    assert read_back["stoker_worker_slots busy"] == 3
    assert read_back["stoker_worker_slots free"] == 5


def test_of_lags_the_worst_counts() -> None:
    sums = SummedMetrics(2)
    sums.update(0, "first", page(0, lag=0.1))
    sums.update(1, "second", page(0, lag=2.0))
    assert read(sums)["stoker_worker_event_loop_lag_seconds"] == 2.0


def test_a_process_that_restarts_takes_nothing_back_from_the_counters() -> None:
    """A sum that fell would look like a restart of all, and every rate would jump."""
    sums = SummedMetrics(2)
    sums.update(0, "first", page(5, busy=2))
    sums.update(1, "second", page(5))
    sums.remove(0)
    assert read(sums)["stoker_tasks_succeeded_total send"] == 10
    assert read(sums)["stoker_worker_slots busy"] == 0, "it is gone, and so is what it was doing"
    sums.remove(0)
    sums.update(0, "third", page(2))
    sums.update(1, "second again", page(1))
    assert read(sums)["stoker_tasks_succeeded_total send"] == 5 + 2 + 5 + 1
