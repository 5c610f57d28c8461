"""Why a pod has ended, from what the API server says of it: status and metadata as Kubernetes 1.26 to 1.31 write them."""

from typing import Any

import pytest

from stoker.rules.losses import LossCause, known_cause
from stoker_operator.reconcile.pods import cause_of

GOING = "2026-05-04T09:00:30Z"


def container(code: int, reason: str = "Error", name: str = "worker") -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": reason, "startedAt": "2026-05-04T08:00:00Z", "finishedAt": "2026-05-04T09:00:29Z"}
    return {
        "name": name,
        "image": "shop:1",
        "imageID": "sha256:1",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": {"terminated": terminated},
        "lastState": {},
    }


def pod(*containers: dict[str, Any], deleted: bool = False, disrupted: str = "", **status: Any) -> dict[str, Any]:
    deletion = {"deletionTimestamp": GOING, "deletionGracePeriodSeconds": 30} if deleted else {}
    conditions = [{"type": "Ready", "status": "False", "reason": "PodFailed"}]
    if disrupted:
        message = "The reason in words"
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": disrupted, "message": message})
    return {
        "metadata": {"name": "emails-7d9f-x2x4z", "uid": "1", **deletion},
        "status": {"phase": "Failed", "conditions": conditions, "containerStatuses": list(containers), **status},
    }


KILLED, STOPPED, CLEAN = container(137), container(143), container(0, "Completed")
OUT_OF_MEMORY = container(137, "OOMKilled")


@pytest.mark.parametrize(
    ("found", "cause", "innocent"),
    [
        pytest.param(pod(STOPPED, deleted=True), LossCause.DELETED, True, id="a scale-in: SIGTERM"),
        pytest.param(pod(KILLED, deleted=True), LossCause.DELETED, True, id="a scale-in: SIGKILL after the grace period"),
        pytest.param(pod(CLEAN, deleted=True, phase="Succeeded"), LossCause.DELETED, True, id="a rollout: it drained"),
        pytest.param(
            pod(KILLED, deleted=True, disrupted="EvictionByEvictionAPI"), LossCause.EVICTED_BY_API, True, id="kubectl drain"
        ),
        pytest.param(pod(KILLED, deleted=True, disrupted="PreemptionByScheduler"), LossCause.PREEMPTED, True, id="preempted"),
        pytest.param(pod(KILLED, deleted=True, disrupted="DeletionByTaintManager"), LossCause.NODE_TAINTED, True, id="tainted"),
        pytest.param(pod(disrupted="DeletionByPodGC"), LossCause.NODE_GONE, True, id="its node is gone: nothing else is known"),
        pytest.param(
            pod(KILLED, disrupted="TerminationByKubelet", reason="Evicted", message="The node was low on resource: memory."),
            LossCause.EVICTED_BY_NODE,
            False,
            id="the node was low on memory: the task may have used it",
        ),
        pytest.param(pod(reason="Evicted"), LossCause.EVICTED_BY_NODE, False, id="the same before the condition was invented"),
        pytest.param(pod(OUT_OF_MEMORY), LossCause.OUT_OF_MEMORY, False, id="out of memory"),
        pytest.param(
            pod(OUT_OF_MEMORY, deleted=True, disrupted="EvictionByEvictionAPI"),
            LossCause.OUT_OF_MEMORY,
            False,
            id="out of memory while it was evicted",
        ),
        pytest.param(
            pod(CLEAN, container(137, "OOMKilled", "sidecar")), LossCause.OUT_OF_MEMORY, False, id="any of its containers"
        ),
        pytest.param(pod(container(139), deleted=True), LossCause.CRASHED, False, id="a segmentation fault while it was scaled in"),
        pytest.param(pod(container(9)), LossCause.CRASHED, False, id="os._exit(9)"),
        pytest.param(pod(KILLED), LossCause.CRASHED, False, id="killed, and nobody had asked for it"),
        pytest.param(pod(KILLED, disrupted="InventedLater"), None, False, id="a reason of a later Kubernetes: it counts"),
        pytest.param(pod(CLEAN, phase="Succeeded"), None, False, id="it just ended"),
        pytest.param({"metadata": {"name": "new"}}, None, False, id="nothing is known"),
    ],
)
def test_the_cause_of_a_loss(found: dict[str, Any], cause: LossCause | None, innocent: bool) -> None:
    assert cause_of(found) is cause
    assert bool(cause and cause.innocent) is innocent


def test_a_condition_that_does_not_hold_says_nothing() -> None:
    found = pod(disrupted="EvictionByEvictionAPI")
    found["status"]["conditions"][-1]["status"] = "False"
    assert cause_of(found) is None


@pytest.mark.parametrize("cause", list(LossCause))
def test_a_stored_cause_is_read_and_has_a_text(cause: LossCause) -> None:
    assert known_cause(cause.value) is cause
    assert cause.text


@pytest.mark.parametrize("word", [None, "", "invented_later", "OUT_OF_MEMORY"])
def test_another_word_is_no_cause(word: str | None) -> None:
    assert known_cause(word) is None
