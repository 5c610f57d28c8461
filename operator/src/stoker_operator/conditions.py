"""The conditions of a TaskQueue. Pure: what is known in, conditions out.

Ready says whether its workers are as they should be, RedisReachable whether its queue can be read, ScalingActive
whether the autoscaler acts. Suspended and Stalled (nothing will happen until someone changes something) stand
there only while they hold.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from stoker.autoscale.decide import Reason
from stoker_operator.plan import Halt
from stoker_operator.roster import Findings, Reading, Scaling, Workers

LONGEST_MESSAGE = 1000
STUCK = frozenset({"InvalidSpec", "NameTaken", "QueueTaken"})
"""Reasons that pass only when someone changes something."""


class Condition(NamedTuple):
    """One aspect, now."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


class Note(NamedTuple):
    """A transition worth an Event."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def conditions(findings: Findings, reading: Reading, scaling: Scaling | None) -> list[Condition]:
    """Everything that can be said about a TaskQueue."""
    found = [_ready(findings), _redis(findings, reading), _scaling(findings, reading, scaling)]
    if findings.suspended:
        found.append(Condition("Suspended", "True", "Suspended", "spec.suspend is true: workers and their number stay as they are"))
    if findings.halt and findings.halt.reason in STUCK:
        found.append(Condition("Stalled", "True", *_words(findings.halt)))
    return found


def written(current: Iterable[Condition], previous: Sequence[dict[str, Any]], generation: int, now: str) -> list[dict[str, Any]]:
    """The conditions as the API has them. `lastTransitionTime` moves only with the status."""
    before = {condition["type"]: condition for condition in previous}
    return [
        {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message[:LONGEST_MESSAGE],
            "lastTransitionTime": _since(before.get(condition.type), condition, now),
            "observedGeneration": generation,
        }
        for condition in current
    ]


def notes(current: Iterable[Condition], previous: Sequence[dict[str, Any]]) -> list[Note]:
    """The Events for what has changed since `previous`. A new TaskQueue that is fine is no news."""
    before = {condition["type"]: condition for condition in previous}
    found = []
    for condition in current:
        old = before.get(condition.type, {})
        if condition.type == "Ready":
            found += _ready_notes(condition, old)
        elif condition.type == "RedisReachable":
            found += _redis_notes(condition, old)
    return found


def _ready(findings: Findings) -> Condition:
    halt, workers = findings.halt, findings.workers
    if halt is not None:
        return Condition("Ready", "False", *_words(halt))
    if workers is None:
        return Condition("Ready", "False", "WorkersMissing", "there is no Deployment of workers yet")
    if workers.failing is not None:
        return Condition("Ready", "False", *_words(workers.failing))
    return _readiness(workers)


def _readiness(workers: Workers) -> Condition:
    if workers.replicas == 0:
        return Condition("Ready", "True", "ScaledToZero", "no workers are needed now")
    if workers.ready == 0:
        return Condition("Ready", "False", "WorkersNotReady", f"none of {_count(workers.replicas)} is ready")
    return Condition("Ready", "True", "WorkersReady", f"{min(workers.ready, workers.replicas)} of {_count(workers.replicas)} ready")


def _redis(findings: Findings, reading: Reading) -> Condition:
    if findings.halt is not None and not findings.readable:
        return Condition("RedisReachable", "Unknown", findings.halt.reason, "the queue is not read")
    if reading.trouble is not None:
        return Condition("RedisReachable", "False", *_words(reading.trouble))
    if reading.stats is not None:
        return Condition("RedisReachable", "True", "Answering", "the queue is read")
    return Condition("RedisReachable", "Unknown", "NotReadYet", "the queue has not been read yet")


def _scaling(findings: Findings, reading: Reading, scaling: Scaling | None) -> Condition:
    if findings.halt is not None:
        return Condition("ScalingActive", "False", findings.halt.reason, "the number of workers is not changed")
    if findings.suspended:
        return Condition("ScalingActive", "False", "Suspended", "spec.suspend is true")
    if scaling is None or findings.queue is None:
        return Condition("ScalingActive", "Unknown", "NotDecidedYet", "the autoscaler has not looked yet")
    if findings.queue.spec.replicas is not None:
        return Condition("ScalingActive", "False", "FixedReplicas", f"spec.replicas asks for {_count(scaling.desired)}")
    if reading.trouble is not None:
        return Condition("ScalingActive", "False", Reason.DEMAND_UNKNOWN, f"Redis cannot be read: {_count(scaling.desired)} held")
    if scaling.refused is not None:
        return Condition("ScalingActive", "False", *_words(scaling.refused))
    paused = findings.queue.spec.scaling.paused
    if paused == "All":
        return Condition("ScalingActive", "False", "Paused", "spec.scaling.paused is All")
    return Condition("ScalingActive", "True", "Scaling", f"{_count(scaling.desired)} wanted: {scaling.reason}")


def _words(halt: Halt) -> tuple[str, str]:
    return halt.reason, halt.message


def _count(replicas: int) -> str:
    return "1 worker" if replicas == 1 else f"{replicas} workers"


def _since(before: dict[str, Any] | None, condition: Condition, now: str) -> str:
    unchanged = before is not None and before["status"] == condition.status
    return str(before["lastTransitionTime"]) if before is not None and unchanged else now


def _ready_notes(condition: Condition, old: dict[str, Any]) -> list[Note]:
    # Workers come and go with the backlog: only trouble is news, and its end.
    quiet = {"WorkersNotReady", "WorkersMissing", "Deleting", "WorkersReady", "ScaledToZero"}
    if condition.status == "False" and condition.reason not in quiet and condition.reason != old.get("reason"):
        return [Note("Warning", condition.reason, condition.message)]
    if condition.status == "True" and old.get("status") == "False" and old["reason"] not in quiet:
        return [Note("Normal", "Ready", condition.message)]
    return []


def _redis_notes(condition: Condition, old: dict[str, Any]) -> list[Note]:
    if condition.status == "False" and old.get("status") != "False":
        return [Note("Warning", condition.reason, condition.message)]
    if condition.status == "True" and old.get("status") == "False":
        return [Note("Normal", "RedisRecovered", "Redis answers again, scaling goes on")]
    return []
