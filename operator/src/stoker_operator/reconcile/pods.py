"""What the status of pods says: why workers cannot start, whether a pod has ended, and why. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from stoker.rules.losses import LossCause
from stoker_operator.reconcile.pod_template import WORKER
from stoker_operator.state.problem import Problem, no_pods, pod_failing, rollout_stalled
from stoker_operator.state.ref import Object

FATAL_WAITING = frozenset(
    {
        *("ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"),
        *("CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
"""Reasons of a waiting container that do not pass by waiting."""
_KILLED = frozenset({128 + 15, 128 + 9})
_ASKED_TO_END = frozenset({0, *_KILLED})
"""Exit codes of a container that ended by itself, by SIGTERM, or by SIGKILL after its grace period."""
_DISRUPTIONS = {
    "EvictionByEvictionAPI": LossCause.EVICTED_BY_API,
    "PreemptionByScheduler": LossCause.PREEMPTED,
    "DeletionByTaintManager": LossCause.NODE_TAINTED,
    "DeletionByPodGC": LossCause.NODE_GONE,
    "TerminationByKubelet": LossCause.EVICTED_BY_NODE,
}
"""By the reason of the condition DisruptionTarget. Of another reason nothing is known: the loss counts."""


def failing(deployment: Object, pods: Sequence[Object]) -> Problem | None:
    """Why the first pod (by name) that cannot start does not; or why no pods can be created (a quota, a policy)."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        for reason, message in _failures(pod):
            return pod_failing(pod["metadata"]["name"], reason, message)
    if (failure := replica_failure(deployment)) is not None:
        return no_pods(failure)
    stalled = deadline_exceeded(deployment)
    return None if stalled is None else rollout_stalled(stalled)


def replica_failure(deployment: Object) -> str | None:
    """The message of the Deployment's condition ReplicaFailure, if it holds."""
    for condition in _conditions(deployment):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message", ""))
    return None


def deadline_exceeded(deployment: Object) -> str | None:
    """The message of the Deployment's condition Progressing, if its rollout has exceeded the deadline."""
    for condition in _conditions(deployment):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return str(condition.get("message", ""))
    return None


def restarts(pods: Sequence[Object]) -> str:
    """How often the containers of the pod that restarts most were started again, and how the last one ended. Empty without any."""
    found: list[tuple[int, str, Object]] = [
        (container.get("restartCount", 0), str(pod["metadata"]["name"]), container)
        for pod in pods
        for container in (pod.get("status") or {}).get("containerStatuses") or ()
        if not container.get("ready")
    ]
    if not found:
        return ""
    count, pod, container = max(found, key=lambda each: (each[0], each[1]))
    if count == 0:
        return ""
    last = (container.get("lastState") or {}).get("terminated") or {}
    how = f", last with exit code {last.get('exitCode')} ({last.get('reason', 'unknown')})" if last else ""
    unstarted = ""
    if container.get("started") is False:
        unstarted = ", before its startup probe (/startz) succeeded"
        if last.get("exitCode") in _KILLED and last.get("reason") != "OOMKilled":
            unstarted += ": if the application takes longer to load, raise spec.worker.startupTimeout"
    return f"pod {pod} restarted {'once' if count == 1 else f'{count} times'}{how}{unstarted}; see `kubectl logs --previous`"


def _conditions(deployment: Object) -> Sequence[Object]:
    return (deployment.get("status") or {}).get("conditions") or ()


def ended(pod: Object, *, deleted: bool) -> bool:
    """Whether no container of the pod runs, nor ever will.

    A pod that is deleted by force may still run on an unreachable node: it counts as ended only if its containers had
    terminated. One whose container restarts has not ended: the next process has the same pod name.
    """
    status = pod.get("status") or {}
    if status.get("phase") in {"Failed", "Succeeded"}:
        return True
    containers = _workers_own(status)
    return deleted and bool(containers) and all("terminated" in (each.get("state") or {}) for each in containers)


def cause_of(pod: Object) -> LossCause | None:
    """Why this pod has ended; None if nothing says so.

    What may be a task's doing goes before what happened to the pod: one that is killed out of memory while it is evicted is no
    innocent. A pod that is scaled in has no condition, only its deletion, after which SIGTERM or SIGKILL ended its containers.
    """
    status = pod.get("status") or {}
    ends = list(_ends(status))
    if any(end.get("reason") == "OOMKilled" for end in ends):
        return LossCause.OUT_OF_MEMORY
    codes = {end.get("exitCode", 0) for end in _ends({"containerStatuses": _workers_own(status)})}
    if codes - _ASKED_TO_END:
        return LossCause.CRASHED
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _DISRUPTIONS.get(str(condition.get("reason")))
    if status.get("reason") == "Evicted":  # by a kubelet older than the condition
        return LossCause.EVICTED_BY_NODE
    if pod["metadata"].get("deletionTimestamp"):
        return LossCause.DELETED
    return LossCause.CRASHED if codes - {0} else None


def _workers_own(status: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The status of the worker's container: how a sidecar ends says nothing about the tasks."""
    containers: Sequence[dict[str, Any]] = status.get("containerStatuses") or ()
    return [each for each in containers if each.get("name") == WORKER] or containers


def _ends(status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for container in status.get("containerStatuses") or ():
        if terminated := (container.get("state") or {}).get("terminated"):
            yield terminated


def _failures(pod: Object) -> Iterator[tuple[str, str]]:
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield condition.get("reason", "Unschedulable"), condition.get("message", "no node fits")
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in FATAL_WAITING:
            yield waiting["reason"], _termination(container) or waiting.get("message", "")


def _termination(container: dict[str, Any]) -> str:
    """How the container last ended; the message of CrashLoopBackOff only says that it waits."""
    last = (container.get("lastState") or {}).get("terminated") or {}
    if not last:
        return ""
    message = str(last.get("message", "")).strip()
    return (
        f"exit code {last.get('exitCode')} ({last.get('reason', 'unknown')}){': ' + message if message else ''}; see `kubectl logs`"
    )
