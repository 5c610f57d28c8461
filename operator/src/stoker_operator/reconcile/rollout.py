"""Whether the rollout of a new version goes on, by how its pods fare. Pure.

A Deployment stops old pods as soon as as many new ones are ready, if only for a moment: a version that crashes after its start
would replace one that works. So the rollout is paused where it stands (`spec.paused`) while at least half of the new pods fail and
old ones are there to go on. It stays paused until another version is rolled out, the TaskQueue's annotation allows it, the new pods
have been ready for a while, or no old pod is left to protect. A paused Deployment is still scaled, old and new pods in proportion.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from stoker_operator.reconcile.pod_template import TEMPLATE_ENV
from stoker_operator.reconcile.pods import FATAL_WAITING
from stoker_operator.state.findings import Trial
from stoker_operator.state.ref import Object

MANY_RESTARTS = 2
"""Restarts of a container that are no mishap."""
RECENT = 600.0
"""Seconds since the last crash after which restarts are history."""
READY_MARGIN = 60.0
"""Seconds beyond `startupTimeout` that a container that runs may take until it is ready."""
PULL_SECONDS = 600.0
"""Seconds beyond `startupTimeout` that a pod on its node may take until its containers run, as a Deployment allows."""
PROOF_SECONDS = 60.0
"""Seconds that all new pods must have been ready for a paused rollout to go on by itself."""
LAST_WORDS = 400
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^@\s/]+@")
_FIRST_PULL = "ErrImagePull"
"""The first attempt failed; after the next one the reason is ImagePullBackOff."""


def judge(deployment: Object, template: str, pods: Sequence[Object], now: datetime) -> Trial:
    """How the pods of the newest version fare, whose template has this hash."""
    new = sorted((pod for pod in pods if _of(pod) == template and not _ends(pod)), key=lambda pod: str(pod["metadata"]["name"]))
    allowed = startup_timeout(deployment)
    found = [(pod, failure) for pod in new if (failure := _failure(pod, allowed, now))]
    if not found:
        return Trial(len(new), proven=bool(new) and all(_ready_for(pod, now) >= PROOF_SECONDS for pod in new))
    pod, failure = found[0]
    return Trial(len(new), len(found), f"pod {pod['metadata']['name']}: {failure}", _last_words(pod))


def held(trial: Trial, *, old_pods: int, paused: bool) -> bool:
    """Whether the rollout is paused, or stays so."""
    if old_pods <= 0:
        return False  # it protects no worker, and would keep the new ones from being mended
    return not trial.proven if paused else trial.failing > 0 and trial.failing * 2 >= trial.pods


def figures(trial: Trial) -> str:
    """The trial in words, for the condition."""
    if trial.failing:
        return f"{trial.failing} of {trial.pods} new pods {'fails' if trial.failing == 1 else 'fail'}: {trial.example}"
    return f"no new pod fails now, of {trial.pods}; it goes on when all have been ready for {PROOF_SECONDS:g}s"


def startup_timeout(deployment: Object) -> float:
    """Seconds that the startup probe allows a worker."""
    [worker] = [each for each in deployment["spec"]["template"]["spec"]["containers"] if each["name"] == "worker"] or [{}]
    probe = worker.get("startupProbe") or {}
    return float(probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10))


def _of(pod: Object) -> str:
    """The hash of the template that a pod was made from."""
    variables = (each for container in (pod.get("spec") or {}).get("containers") or () for each in container.get("env") or ())
    return next((str(each.get("value", "")) for each in variables if each.get("name") == TEMPLATE_ENV), "")


def _ends(pod: Object) -> bool:
    """A pod that terminates, or was evicted and is replaced, says nothing about its version."""
    return "deletionTimestamp" in pod["metadata"] or (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}


def _failure(pod: Object, allowed: float, now: datetime) -> str:
    """Why the pod counts as failing; empty if it does not. A pod that no node takes is not its version's fault."""
    status = pod.get("status") or {}
    for container in _containers(status):
        state, last = container.get("state") or {}, _last(container)
        waiting = (state.get("waiting") or {}).get("reason", "")
        count = container.get("restartCount", 0)
        crashed = bool(last.get("exitCode")) and _seconds(last.get("finishedAt"), now, unknown=0.0) < RECENT
        if waiting in FATAL_WAITING and waiting != _FIRST_PULL:
            detail = (state["waiting"].get("message") or "") if not last else ""
            return ", ".join(part for part in (waiting, _restarts(count, last), detail) if part)
        if count >= MANY_RESTARTS and crashed:
            return _restarts(count, last)
        running = _seconds((state.get("running") or {}).get("startedAt"), now, unknown=0.0)
        if not container.get("ready") and running > allowed + READY_MARGIN:
            return f"not ready within {allowed + READY_MARGIN:g}s after its container started"
    waited = _seconds(status.get("startTime"), now, unknown=0.0)
    if not any((each.get("state") or {}).get("running") for each in _containers(status)) and waited > allowed + PULL_SECONDS:
        return f"no container runs within {allowed + PULL_SECONDS:g}s after it came to its node"
    return ""


def _restarts(count: int, last: dict[str, Any]) -> str:
    how = f"exit code {last.get('exitCode')} ({last.get('reason', 'unknown')})" if last else ""
    times = f"{count} restart{'' if count == 1 else 's'}" if count else ""
    return ", ".join(part for part in (times, how) if part)


def _last_words(pod: Object) -> str:
    """The end of what a container wrote before it ended, without passwords of URLs."""
    for container in _containers(pod.get("status") or {}):
        if text := str(_last(container).get("message") or "").strip():
            return _PASSWORD.sub(r"\1:***@", text)[-LAST_WORDS:]
    return ""


def _last(container: dict[str, Any]) -> dict[str, Any]:
    """How the container ended last."""
    states = (container.get("state") or {}, container.get("lastState") or {})
    return next((found for state in states if (found := state.get("terminated"))), {})


def _containers(status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _ready_for(pod: Object, now: datetime) -> float:
    """Seconds since the pod got ready; negative if it is not."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") == "True":
            return _seconds(condition.get("lastTransitionTime"), now, unknown=0.0)
    return -1.0


def _seconds(since: object, now: datetime, *, unknown: float) -> float:
    """Seconds since an RFC 3339 timestamp."""
    try:
        return (now - datetime.fromisoformat(str(since)).astimezone(UTC)).total_seconds()
    except ValueError:
        return unknown
