"""Why workers do not start, in one sentence."""

from typing import Any

import pytest

from stoker_operator.pods import failing


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
