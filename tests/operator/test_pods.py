"""Why workers do not start, in one sentence."""

from typing import Any

import pytest

from stoker_operator.reconcile.pods import ended, failing


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
