"""The inputs of `decide`: a policy from the manifest, demand from the statistics of a queue."""

from typing import Protocol

from stoker.autoscale.decide import Demand, Policy
from stoker.manifest.task_queue import TaskQueueSpec


class Statistics(Protocol):
    """The statistics of a queue that make up its demand."""

    @property
    def ready(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def due(self) -> int: ...
    @property
    def paused(self) -> bool: ...
    @property
    def throttled(self) -> bool: ...
    @property
    def service_time(self) -> float: ...
    @property
    def enqueued(self) -> int: ...
    @property
    def runs(self) -> int: ...
    def unseen_by(self, template: str) -> int: ...


def policy_of(spec: TaskQueueSpec) -> Policy:
    """The scaling policy of a TaskQueue."""
    scaling = spec.scaling
    return Policy(
        slots=spec.worker.slots,
        backlog_per_replica=scaling.backlog_per_replica,
        max_wait=scaling.slo.max_wait,
        service_time_hint=scaling.service_time_hint or 0.0,
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        fixed=spec.replicas,
        per_second=spec.rate_limit.per_second if spec.rate_limit else None,
        idle_after=scaling.idle_after,
        stabilization=scaling.scale_down.stabilization,
        paused=scaling.paused,
    )


def demand_of(stats: Statistics, template: str = "", ready_replicas: int = 0) -> Demand:
    """The demand of a queue whose workers would be of this template; empty: unknown. Of its replicas these are ready.

    The backlog of a paused one does not trigger a scale-up; its running tasks keep their workers. Unclaimed tasks that no worker of
    the template has seen count as one task, enough for one worker: once it has announced what it knows, they are seen, and either
    ready or no demand.
    """
    if stats.paused:
        return Demand(running=stats.running, enqueued=stats.enqueued, finished=stats.runs, ready_replicas=ready_replicas)
    unseen = stats.unseen_by(template) if template else 0
    ready = max(stats.ready, min(1, unseen))
    return Demand(ready, stats.running, stats.due, stats.throttled, stats.service_time, stats.enqueued, stats.runs, ready_replicas)
