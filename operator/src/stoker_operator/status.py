"""The status of a TaskQueue: what is known in, the `status` object out, and whether it is worth a write. Pure."""

from typing import Any

from stoker.queue.records import QueueStats
from stoker.rules.units import format_duration
from stoker_operator.conditions import Condition, written
from stoker_operator.resources import Ref
from stoker_operator.roster import Change, Findings, Reading, Scaling

QUIET_SECONDS = 5.0
"""Fast numbers are written at most this often: Prometheus has them by the second, the API server's disk is shared."""

_AT_ONCE = ("observedGeneration", "replicas", "readyReplicas", "desiredReplicas", "selector", "autoscaling", "deploymentRef")


def status(
    ref: Ref, current: list[Condition], known: tuple[Findings, Reading, Scaling | None], previous: dict[str, Any], now: str
) -> dict[str, Any]:
    """The whole status. What is not known any more keeps its last value, but for the conditions."""
    findings, reading, scaling = known
    new: dict[str, Any] = {
        "observedGeneration": findings.generation,
        "selector": ",".join(f"{label}={value}" for label, value in ref.selector.items()),
        "conditions": written(current, previous.get("conditions") or (), findings.generation, now),
    }
    workers = findings.workers
    new |= {
        "replicas": workers.pods if workers else 0,
        "readyReplicas": workers.ready if workers else 0,
        "desiredReplicas": scaling.desired if scaling and findings.scalable else (workers.replicas if workers else 0),
    }
    if workers:
        new["deploymentRef"] = {"name": ref.deployment}
    if reading.stats:
        new["queue"] = _queue(reading.stats)
    if scaling and scaling.change:
        new["autoscaling"] = _autoscaling(scaling.change)
    kept: dict[str, Any] = {key: previous[key] for key in ("queue", "autoscaling") if key in previous}
    return {**kept, **new}


def worth_writing(new: dict[str, Any], old: dict[str, Any], quiet_for: float) -> bool:
    """Whether to write now: what people wait for at once, the rest only after a while, and nothing twice."""
    if new == old:
        return False
    urgent = any(new.get(key) != old.get(key) for key in _AT_ONCE) or _outline(new) != _outline(old)
    return urgent or quiet_for >= QUIET_SECONDS


def _outline(status: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The conditions without the words that change by the second; those of Ready tell a person what to do next."""
    told = {"Ready", "Stalled"}
    found = status.get("conditions") or ()
    return [(each["type"], each["status"], each["reason"], each["message"] if each["type"] in told else "") for each in found]


def _queue(stats: QueueStats) -> dict[str, Any]:
    return {
        "ready": stats.ready,
        "running": stats.running,
        "scheduled": stats.scheduled,
        "dead": stats.dead,
        "oldestWait": format_duration(int(stats.oldest_wait)),
    }


def _autoscaling(change: Change) -> dict[str, Any]:
    return {
        "lastScaleTime": change.at,
        "lastDecision": {"from": change.before, "to": change.after, "reason": change.reason},
    }
