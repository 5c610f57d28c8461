"""The `status` of a TaskQueue, and whether it is worth a write. Pure."""

from typing import Any

from stoker.queue.records import QueueStats
from stoker.rules.units import format_duration
from stoker_operator.report.condition import Condition, because
from stoker_operator.report.conditions import as_status
from stoker_operator.state.findings import ScaleChange, Snapshot, Workers
from stoker_operator.state.problem import Problem, Reason
from stoker_operator.state.ref import Ref, selector_text

QUIET_SECONDS = 5.0
"""Counters alone are written at most this often: Prometheus has them by the second, and etcd's disk is shared."""

_URGENT = (
    *("observedGeneration", "replicas", "readyReplicas", "updatedReplicas", "desiredReplicas"),
    *("selector", "autoscaling", "deploymentRef", "templateHash"),
)


def status(ref: Ref, known: Snapshot, current: list[Condition], previous: dict[str, Any], now: str) -> dict[str, Any]:
    """The whole status. What is no longer known keeps its last value, except for conditions."""
    findings, reading, scaling = known.findings, known.reading, known.scaling
    workers = findings.workers
    new: dict[str, Any] = {
        "observedGeneration": findings.generation,
        "selector": selector_text(ref),
        "conditions": as_status(current, previous.get("conditions") or (), findings.generation, now),
        "replicas": workers.pods if workers else 0,
        "readyReplicas": workers.ready if workers else 0,
        "updatedReplicas": workers.updated if workers else 0,
        "drainingReplicas": workers.draining if workers else 0,
        "desiredReplicas": known.desired_replicas,
    }
    if workers:
        new |= {"deploymentRef": {"name": ref.deployment}, "templateHash": workers.template}
    if reading.stats:
        new["queue"] = _queue(reading.stats)
        if workers and findings.manifest:
            new["workers"] = _slots(workers, findings.manifest.spec.worker.slots, reading.stats.running)
    if scaling and scaling.change:
        new["autoscaling"] = _autoscaling(scaling.change)
    kept: dict[str, Any] = {key: previous[key] for key in ("queue", "workers", "autoscaling") if key in previous}
    return {**kept, **new}


def refusal(problem: Problem, previous: dict[str, Any], generation: int, now: str) -> dict[str, Any]:
    """The status that another installation wrote, with the condition that this one does nothing."""
    before = previous.get("conditions") or ()
    [own] = as_status([because("Contested", "True", problem)], before, generation, now)
    return {**previous, "conditions": [*(each for each in before if each["type"] != own["type"]), own]}


def worth_writing(new: dict[str, Any], old: dict[str, Any], quiet_for: float) -> bool:
    """Whether to write now: at once what users wait for, the rest `QUIET_SECONDS` after the last write, nothing twice."""
    # What another installation says beside ours (Reporter) is no reason to write: two that do so never stop.
    ours = [each for each in old.get("conditions") or () if each["reason"] != Reason.SERVED_ELSEWHERE]
    old = {**old, "conditions": ours}
    if new == old:
        return False
    urgent = any(new.get(key) != old.get(key) for key in _URGENT) or _outline(new) != _outline(old)
    return urgent or quiet_for >= QUIET_SECONDS


def _outline(status: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The conditions without messages that change by the second; those of Ready and Stalled say what to do, and count."""
    actionable = {"Ready", "Stalled"}
    found = status.get("conditions") or ()
    return [(each["type"], each["status"], each["reason"], each["message"] if each["type"] in actionable else "") for each in found]


def _queue(stats: QueueStats) -> dict[str, Any]:
    return {
        "ready": stats.ready,
        "unclaimed": stats.unclaimed,
        "running": stats.running,
        "scheduled": stats.scheduled,
        "dead": stats.dead,
        "oldestWait": format_duration(int(stats.oldest_wait)),
    }


def _slots(workers: Workers, slots: int, running: int) -> dict[str, Any]:
    """The slots of all workers. A task that runs on a worker that drains takes a slot of those that do not."""
    return {"busy": running, "idle": max(0, workers.ready * slots - running), "draining": workers.draining * slots}


def _autoscaling(change: ScaleChange) -> dict[str, Any]:
    return {
        "lastScaleTime": change.at,
        "lastDecision": {"from": change.before, "to": change.after, "reason": change.reason},
    }
