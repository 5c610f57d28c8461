"""The conditions Ready and Reconciling: whether the workers are as this generation of the spec asks, or on their way to it. Pure.

Ready is True for the newest version alone: `kubectl wait --for=condition=Ready` waits for a rollout. A start and a rollout within
their usual time are Unknown and Reconciling, not False: a release is not degraded because a queue wakes up from zero.
"""

from stoker.queue.records import QueueStats
from stoker_operator.report.condition import Condition, because, count
from stoker_operator.state.findings import Snapshot, Workers
from stoker_operator.state.problem import Reason

USUAL_START = 120.0
"""Seconds that workers may take from being asked for until the first is ready: pulling an image, importing an application."""


def readiness(known: Snapshot) -> list[Condition]:
    """Ready, and Reconciling while it holds."""
    findings = known.findings
    workers = findings.workers
    if findings.problem is not None:
        return [because("Ready", "False", findings.problem)]
    if findings.contested is not None:
        return [because("Ready", "False", findings.contested)]
    if workers is None:
        return [Condition("Ready", "False", Reason.WORKERS_MISSING, "the workers' Deployment does not exist yet")]
    if workers.terminating:
        message = "the workers' Deployment is being deleted: they finish their tasks, and then it is created again"
        return [Condition("Ready", "False", Reason.WORKERS_TERMINATING, message)]
    if workers.paused is not None:
        return [because("Ready", "False", workers.paused)]
    if workers.failing is not None:
        problem = workers.failing
        return [Condition("Ready", "False", problem.reason, f"{problem.message}{_others(workers)}")]
    if workers.rollout:
        return _on_the_way(Reason.ROLLING_OUT, workers.rollout)
    if workers.replicas == 0:
        return _without_workers(known)
    if workers.ready == 0:
        return _none_ready(known, workers)
    return [Condition("Ready", "True", Reason.WORKERS_READY, _ready(workers))]


def _none_ready(known: Snapshot, workers: Workers) -> list[Condition]:
    if not workers.restarts and known.starting_for <= USUAL_START:
        return _on_the_way(Reason.WORKERS_STARTING, _ready(workers))
    message = f"{_ready(workers)}; {workers.restarts}" if workers.restarts else f"{_ready(workers)} after {USUAL_START:g}s"
    return [Condition("Ready", "False", Reason.WORKERS_NOT_READY, message)]


def _without_workers(known: Snapshot) -> list[Condition]:
    """At 0 workers, which is right only if it is known that none is needed."""
    problem, stats = known.reading.problem, known.reading.stats
    if problem is not None:
        message = "0 workers, and it is not known whether tasks wait: see condition RedisReachable"
        return [Condition("Ready", "Unknown", Reason.DEMAND_UNKNOWN, message)]
    if stats is None:
        return [Condition("Ready", "Unknown", Reason.INITIALIZING, "0 workers; the queue has not been read yet")]
    waiting = stats.ready + stats.due
    if waiting == 0:
        return [Condition("Ready", "True", Reason.SCALED_TO_ZERO, "no workers are needed now")]
    tasks = "1 task waits" if waiting == 1 else f"{waiting} tasks wait"
    if stats.paused:
        return [Condition("Ready", "True", Reason.SCALED_TO_ZERO, f"no workers are needed now: the queue is paused, and {tasks}")]
    if why := _held_at_zero(known, stats):
        return [Condition("Ready", "False", Reason.NO_WORKERS, f"{tasks}, and there are no workers: {why}")]
    return _on_the_way(Reason.WORKERS_STARTING, f"{tasks} for the first worker")


def _held_at_zero(known: Snapshot, stats: QueueStats) -> str:
    """What keeps a queue with tasks at 0 workers. Empty if nothing does."""
    findings = known.findings
    if findings.suspended:
        return "spec.suspend is true"
    if findings.manifest is None:
        return ""
    spec = findings.manifest.spec
    if spec.replicas == 0:
        return "spec.replicas is 0"
    if spec.replicas is None and spec.scaling.paused in {"All", "ScaleOut"}:
        return f"spec.scaling.paused is {spec.scaling.paused}"
    return "the API server refuses to scale: see condition ScalingActive" if known.scaling and known.scaling.refused else ""


def _on_the_way(reason: Reason, message: str) -> list[Condition]:
    return [Condition("Ready", "Unknown", reason, message), Condition("Reconciling", "True", reason, message)]


def _ready(workers: Workers) -> str:
    return f"{min(workers.ready, workers.replicas)} of {count(workers.replicas)} ready{_draining(workers)}"


def _draining(workers: Workers) -> str:
    """That more pods exist than are wanted, or than `maxReplicas`: a Deployment does not count those that terminate."""
    return f"; {workers.draining} more drain{'s' if workers.draining == 1 else ''}" if workers.draining else ""


def _others(workers: Workers) -> str:
    """That others work, which is why nothing is lost yet."""
    if workers.ready == 0:
        return f"; {workers.restarts}" if workers.restarts else ""
    return f"; {count(workers.ready)} of the version before ready" if workers.rollout else f"; {_ready(workers)}"
