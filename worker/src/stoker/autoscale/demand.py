"""From the manifest and a reading of Redis to what `decide` takes."""

from stoker.autoscale.decide import Demand, Policy
from stoker.taskqueue import TaskQueueSpec


def policy_of(spec: TaskQueueSpec) -> Policy:
    """The scaling policy that a TaskQueue states."""
    scaling = spec.scaling
    return Policy(
        slots=spec.worker.concurrency,
        backlog_per_replica=spec.backlog_per_replica,
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        fixed=spec.replicas,
        idle_after=scaling.idle_after,
        stabilization=scaling.scale_down.stabilization,
        paused=scaling.paused,
    )


def demand_of(ready: int, running: int, due: int, *, paused: bool) -> Demand:
    """A paused queue asks for no new workers, however much waits in it; what runs is still held."""
    return Demand(0, running, 0) if paused else Demand(ready, running, due)
