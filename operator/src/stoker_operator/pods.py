"""What pods tell: why workers do not start, in the cluster's own words, and that one has ended. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from stoker_operator.plan import Halt
from stoker_operator.resources import Object

_HOPELESS = frozenset(
    {
        *("ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"),
        *("CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)


def failing(deployment: Object, pods: Sequence[Object]) -> Halt | None:
    """The first pod that cannot start, and why; or why there are no pods at all (a quota, a policy)."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        for reason, message in _troubles(pod):
            return Halt("WorkersFailing", f"pod {pod['metadata']['name']}: {reason}: {message}")
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Halt("WorkersFailing", f"pods cannot be created: {condition.get('message', '')}")
    return None


def ended(pod: Object, *, deleted: bool) -> bool:
    """Whether nothing of it runs any more, nor ever will.

    A pod that is deleted by force may run on where nobody sees it: it is believed to have ended only if its containers had.
    One whose container starts again has not ended: its next process has the same pod's name.
    """
    status = pod.get("status") or {}
    if status.get("phase") in {"Failed", "Succeeded"}:
        return True
    containers = status.get("containerStatuses") or ()
    return deleted and bool(containers) and all("terminated" in (each.get("state") or {}) for each in containers)


def _troubles(pod: Object) -> Iterator[tuple[str, str]]:
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield condition.get("reason", "Unschedulable"), condition.get("message", "no node takes it")
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _HOPELESS:
            yield waiting["reason"], _last_words(container) or waiting.get("message", "")


def _last_words(container: dict[str, Any]) -> str:
    """What a container said before it died, or how; the back-off's own message only says that it waits."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    if not ended:
        return ""
    said = str(ended.get("message", "")).strip()
    return f"exit code {ended.get('exitCode')} ({ended.get('reason', 'unknown')}){': ' + said if said else ''}; see `kubectl logs`"
