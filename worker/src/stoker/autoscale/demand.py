"""From the manifest and a reading of Redis to what `decide` takes."""

from typing import Protocol

from stoker.autoscale.decide import Demand, Policy
from stoker.manifest import TaskQueueSpec


class Reading(Protocol):
    """What is wanted of a queue's statistics."""

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


def policy_of(spec: TaskQueueSpec) -> Policy:
    """The scaling policy that a TaskQueue states."""
    scaling = spec.scaling
    return Policy(
        slots=spec.worker.slots,
        backlog_per_replica=spec.backlog_per_replica,
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        fixed=spec.replicas,
        per_second=spec.rate_limit.per_second if spec.rate_limit else None,
        idle_after=scaling.idle_after,
        stabilization=scaling.scale_down.stabilization,
        paused=scaling.paused,
    )


def demand_of(reading: Reading) -> Demand:
    """A paused queue asks for no new workers, however much waits in it; what runs is still held."""
    if reading.paused:
        return Demand(running=reading.running)
    return Demand(reading.ready, reading.running, reading.due, reading.throttled, reading.service_time)
