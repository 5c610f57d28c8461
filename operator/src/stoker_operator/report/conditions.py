"""The conditions of a TaskQueue, and the Events for their transitions. Pure: what is known in, conditions out.

Ready and Reconciling: the workers are as the spec asks, or on their way to it (readiness.py). RedisReachable: the queue can be
read. ScalingActive: the autoscaler acts. Suspended, Stalled (nothing happens until a user changes an object), Unclaimed (no live
worker knows some tasks), Contested (another writer changes what the operator sets), RolloutPaused (the newest version fails),
Incomplete (an object beside the Deployment is missing) and TasksLeftBehind (in the Redis that the queue has moved away from) are
listed only while they hold.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from stoker.manifest.task_queue import TaskQueue
from stoker.queue.records import QueueStats
from stoker.rules.printable import printable
from stoker_operator.report.condition import Condition, because, count
from stoker_operator.report.readiness import readiness
from stoker_operator.state.findings import Findings, LeftBehind, Reading, Snapshot
from stoker_operator.state.problem import REDIS_AWAY, STALLED, Reason
from stoker_operator.state.ref import ABANDON

MAX_MESSAGE = 1000
ROUTINE = REDIS_AWAY | {
    Reason.WORKERS_MISSING,
    Reason.WORKERS_TERMINATING,
    Reason.NO_WORKERS,
    Reason.DELETING,
    Reason.SPEC_CONTESTED,
    Reason.WORKERS_READY,
    Reason.SCALED_TO_ZERO,
}
"""Reasons of Ready without an Event: workers come and go with the backlog, and RedisReachable and Contested announce theirs."""


class Notice(NamedTuple):
    """A transition to announce as an Event."""

    kind: Literal["Normal", "Warning"]
    reason: Reason
    message: str


def conditions(known: Snapshot) -> list[Condition]:
    """All conditions of a TaskQueue."""
    findings = known.findings
    found = [*_settled(readiness(known)), _redis(findings, known.reading), _scaling(known)]
    if findings.suspended:
        message = "spec.suspend is true: the workers are neither updated nor scaled"
        found.append(Condition("Suspended", "True", Reason.SUSPENDED, message))
    if findings.problem and findings.problem.reason in STALLED:
        found.append(because("Stalled", "True", findings.problem))
    if known.reading.stats and known.reading.stats.unclaimed:
        found.append(_unclaimed(known.reading.stats))
    if contested := findings.contested or known.rescaled:
        found.append(because("Contested", "True", contested))
    if findings.workers is not None and findings.workers.paused is not None:
        found.append(because("RolloutPaused", "True", findings.workers.paused))
    if findings.incomplete is not None:
        found.append(because("Incomplete", "True", findings.incomplete))
    if findings.left_behind is not None:
        found.append(_left_behind(findings.left_behind))
    return found


def as_status(current: Iterable[Condition], previous: Sequence[dict[str, Any]], generation: int, now: str) -> list[dict[str, Any]]:
    """The conditions as they stand in `status.conditions`. `lastTransitionTime` moves only when the status of one changes."""
    before = {condition["type"]: condition for condition in previous}
    return [
        {
            "type": condition.type,
            "status": condition.status,
            "reason": str(condition.reason),
            "message": printable(condition.message, "\n")[:MAX_MESSAGE],
            "lastTransitionTime": _since(before.get(condition.type), condition, now),
            "observedGeneration": generation,
        }
        for condition in current
    ]


def notices(current: Iterable[Condition], previous: Sequence[dict[str, Any]]) -> list[Notice]:
    """The Events for what changed since `previous`. A new TaskQueue without a problem has none."""
    before = {condition["type"]: condition for condition in previous}
    found = []
    for condition in current:
        old = before.get(condition.type, {})
        if condition.type == "Ready":
            found += _ready_notices(condition, old)
        elif condition.type == "RedisReachable":
            found += _redis_notices(condition, old)
        elif condition.type in {"Contested", "Incomplete", "TasksLeftBehind"} and condition.reason != old.get("reason"):
            found.append(Notice("Warning", condition.reason, condition.message))
    return found


def _settled(found: list[Condition]) -> list[Condition]:
    """With Reconciling, which `kubectl wait --for=condition=Reconciling=False` needs to be there."""
    if len(found) > 1:
        return found
    return [*found, Condition("Reconciling", "False", found[0].reason, "nothing is on its way: see condition Ready")]


def _redis(findings: Findings, reading: Reading) -> Condition:
    if findings.problem is not None and findings.source is None:
        return Condition("RedisReachable", "Unknown", findings.problem.reason, "the queue is not read: see condition Ready")
    if reading.problem is not None:
        return because("RedisReachable", "False", reading.problem)
    if reading.stats is not None:
        return Condition("RedisReachable", "True", Reason.CONNECTED, "Redis answers")
    return Condition("RedisReachable", "Unknown", Reason.INITIALIZING, "the queue has not been read yet")


def _scaling(known: Snapshot) -> Condition:
    findings, reading, scaling = known.findings, known.reading, known.scaling
    if findings.workers is not None and findings.workers.terminating:
        return Condition("ScalingActive", "False", Reason.WORKERS_TERMINATING, "the workers' Deployment is being deleted")
    if findings.problem is not None and findings.scalable is None and not findings.suspended:
        return Condition("ScalingActive", "False", findings.problem.reason, "the workers are not scaled: see condition Ready")
    if findings.suspended:
        return Condition("ScalingActive", "False", Reason.SUSPENDED, "spec.suspend is true")
    if known.rescaled is not None:
        return because("ScalingActive", "False", known.rescaled)
    if scaling is None or findings.manifest is None:
        return Condition("ScalingActive", "Unknown", Reason.INITIALIZING, "the autoscaler has not decided yet")
    spec = findings.manifest.spec
    if spec.replicas is not None:
        return Condition("ScalingActive", "False", Reason.FIXED_REPLICAS, _fixed(findings.manifest, spec.replicas))
    if reading.problem is not None:
        message = f"Redis cannot be read: holding {count(scaling.desired)}"
        return Condition("ScalingActive", "False", Reason.DEMAND_UNKNOWN, message)
    if scaling.refused is not None:
        return because("ScalingActive", "False", scaling.refused)
    if spec.scaling.paused == "All":
        return Condition("ScalingActive", "False", Reason.PAUSED, "spec.scaling.paused is All")
    by = f", by the last good spec, generation {findings.last_good}" if findings.problem else ""
    return Condition("ScalingActive", "True", Reason.SCALING, f"{count(scaling.desired)} desired: {scaling.reason}{by}")


def _fixed(queue: TaskQueue, replicas: int) -> str:
    """Says how to get the autoscaler back: `kubectl scale` sets the field, and nothing takes it away."""
    most = queue.spec.scaling.max_replicas
    beyond = f", more than spec.scaling.maxReplicas, {most}, which limits the autoscaler alone" if replicas > most else ""
    command = (
        f"""kubectl patch taskqueue {queue.name} --namespace {queue.namespace} --type merge -p '{{"spec":{{"replicas":null}}}}'"""
    )
    return f"the autoscaler is off: spec.replicas is {replicas}{beyond}; to turn it on: {command}"


def _unclaimed(stats: QueueStats) -> Condition:
    tasks = "1 task" if stats.unclaimed == 1 else f"{stats.unclaimed} tasks"
    message = (
        f"no live worker knows the names of {tasks}: mistyped, or in another image. They run when a worker that knows them starts; "
        f"stoker tasks --queue {stats.queue} --state ready lists them"
    )
    return Condition("Unclaimed", "True", Reason.UNKNOWN_TASKS, message)


def _left_behind(left: LeftBehind) -> Condition:
    what_next = f"Finish or move them, or abandon them by the annotation {ABANDON}=true"
    if not left.tasks and left.unread:
        message = f"the former Redis may have tasks and cannot be read: {left.unread.message}. {what_next}"
        return Condition("TasksLeftBehind", "Unknown", Reason.FORMER_REDIS_UNREADABLE, message)
    tasks = "1 task is" if left.tasks == 1 else f"{left.tasks} tasks are"
    message = f"{tasks} in the former Redis, which new workers do not read. {what_next}"
    return Condition("TasksLeftBehind", "True", Reason.TASKS_LEFT_BEHIND, message)


def _since(before: dict[str, Any] | None, condition: Condition, now: str) -> str:
    unchanged = before is not None and before["status"] == condition.status
    return str(before["lastTransitionTime"]) if before is not None and unchanged else now


def _ready_notices(condition: Condition, old: dict[str, Any]) -> list[Notice]:
    if condition.reason is Reason.DELETING:
        return [] if old.get("reason") == condition.reason else [Notice("Normal", condition.reason, condition.message)]
    if condition.status == "False" and condition.reason not in ROUTINE and condition.reason != old.get("reason"):
        return [Notice("Warning", condition.reason, condition.message)]
    if condition.status == "True" and old.get("status") == "False" and old["reason"] not in ROUTINE:
        return [Notice("Normal", Reason.READY, condition.message)]
    return []


def _redis_notices(condition: Condition, old: dict[str, Any]) -> list[Notice]:
    if condition.status == "False" and old.get("status") != "False":
        return [Notice("Warning", condition.reason, condition.message)]
    if condition.status == "True" and old.get("status") == "False":
        return [Notice("Normal", Reason.REDIS_RECOVERED, "Redis answers again")]
    return []
