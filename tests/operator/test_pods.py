"""Why workers do not start, in one sentence."""

from typing import Any

import pytest

from stoker_operator.reconcile.pods import ended, failing, restarts


def pod(name: str, state: dict[str, Any] | None = None, last: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    container = {"name": "worker", "state": state or {"running": {}}, "lastState": last or {}}
    return {"metadata": {"name": name}, "status": {"containerStatuses": [container], **status}}


WELL = pod("a")
STARTING = pod("b", {"waiting": {"reason": "ContainerCreating"}})
NO_IMAGE = pod("c", {"waiting": {"reason": "ErrImageNeverPull", "message": "image shop:1 is not present"}})
CRASHING = pod(
    "d",
    {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}},
    {"terminated": {"exitCode": 2, "reason": "Error", "message": "no module named shop"}},
)
KILLED = pod(
    "e",
    {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
    {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
)
NOWHERE = {
    "metadata": {"name": "f"},
    "status": {
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]
    },
}
STALLED = {
    "status": {
        "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]
    }
}
QUOTA = {"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}}


@pytest.mark.parametrize(
    ("deployment", "pods", "message"),
    [
        pytest.param({}, [WELL, STARTING], None, id="starting is no trouble"),
        pytest.param({}, [{"metadata": {"name": "new"}}], None, id="nor is a pod that is just made"),
        pytest.param({}, [WELL, NO_IMAGE], "pod c: ErrImageNeverPull: image shop:1 is not present", id="no image"),
        pytest.param(
            {}, [CRASHING], "pod d: CrashLoopBackOff: exit code 2 (Error): no module named shop; see `kubectl logs`", id="crashing"
        ),
        pytest.param({}, [KILLED], "pod e: CrashLoopBackOff: exit code 137 (OOMKilled); see `kubectl logs`", id="out of memory"),
        pytest.param({}, [NOWHERE], "pod f: Unschedulable: 0/3 nodes are available", id="no room"),
        pytest.param(STALLED, [WELL], "the newest version does not get ready: timed out", id="a rollout that hangs"),
        pytest.param(QUOTA, [], "pods cannot be created: exceeded quota", id="no pods at all"),
        pytest.param({}, [KILLED, NO_IMAGE], "pod c: ErrImageNeverPull: image shop:1 is not present", id="always the same one"),
    ],
)
def test_failing(deployment: dict[str, Any], pods: list[dict[str, Any]], message: str | None) -> None:
    found = failing(deployment, pods)
    assert (found.message if found else None) == message
    assert found is None or found.reason == "WorkersFailing"


DONE = {"terminated": {"exitCode": 0}}


@pytest.mark.parametrize(
    ("seen", "deleted", "is_over"),
    [
        pytest.param(pod("a"), False, False, id="it runs"),
        pytest.param(pod("a", DONE), False, False, id="its container may start again"),
        pytest.param(CRASHING, False, False, id="its container will start again"),
        pytest.param(pod("a", phase="Failed"), False, True, id="evicted"),
        pytest.param(pod("a", DONE, phase="Succeeded"), False, True, id="succeeded"),
        pytest.param(pod("a", DONE, phase="Running"), True, True, id="deleted, and its container had ended"),
        pytest.param(pod("a", phase="Running"), True, False, id="deleted by force: it may run on where nobody sees it"),
        pytest.param({"metadata": {"name": "a"}}, True, False, id="deleted before anybody knew anything of it"),
    ],
)
def test_a_pod_has_ended(seen: dict[str, Any], deleted: bool, is_over: bool) -> None:
    assert ended(seen, deleted=deleted) is is_over


def restarted(name: str, count: int, last: dict[str, Any], **status: Any) -> dict[str, Any]:
    container = {
        "name": "worker",
        "restartCount": count,
        "ready": False,
        "lastState": {"terminated": last} if last else {},
        **status,
    }
    return {"metadata": {"name": name}, "status": {"containerStatuses": [container]}}


OOM = {"exitCode": 137, "reason": "OOMKilled"}


@pytest.mark.parametrize(
    ("pods", "message"),
    [
        pytest.param([], "", id="no pods"),
        pytest.param([{"metadata": {"name": "new"}}, restarted("a", 0, {})], "", id="the first start"),
        pytest.param([restarted("a", 9, OOM, ready=True)], "", id="it is ready again"),
        pytest.param(
            [restarted("a", 1, OOM), restarted("b", 4, OOM), restarted("c", 2, OOM)],
            "pod b restarted 4 times, last with exit code 137 (OOMKilled); see `kubectl logs --previous`",
            id="the one that restarts most",
        ),
        pytest.param(
            [restarted("a", 1, {"exitCode": 137, "reason": "Error"}, started=False)],
            "pod a restarted once, last with exit code 137 (Error), before its startup probe (/startz) succeeded: "
            "if the application takes longer to load, raise spec.worker.startupTimeout; see `kubectl logs --previous`",
            id="killed by the startup probe",
        ),
        pytest.param(
            [restarted("a", 1, {"exitCode": 1, "reason": "Error"}, started=False)],
            "pod a restarted once, last with exit code 1 (Error), before its startup probe (/startz) succeeded; "
            "see `kubectl logs --previous`",
            id="ended while it started",
        ),
    ],
)
def test_restarts(pods: list[dict[str, Any]], message: str) -> None:
    assert restarts(pods) == message
