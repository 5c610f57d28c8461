"""A version that crashes, in real pods: its rollout is paused, old workers go on and are scaled, and the next version ends that."""

import json
from typing import Any

import pytest

from tests.cluster.clusters import Cluster, Object, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.timeout(900)]

IMAGE = "stoker.dev/examples/shop:0.1.0"
NAME = "steady"


def apply(cluster: Cluster, app: str, replicas: int) -> None:
    spec = {"worker": {"image": IMAGE, "app": app}, "replicas": replicas}
    manifest = {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": NAME}, "spec": spec}
    cluster.kubectl("apply", "-f", "-", given=json.dumps(manifest))


def condition(cluster: Cluster, kind: str, status: str) -> Any:
    """The condition, if its status is this one."""
    found = (cluster.get("taskqueue", NAME) or {}).get("status", {}).get("conditions", [])
    return next((each for each in found if (each["type"], each["status"]) == (kind, status)), None)


def deployment(cluster: Cluster) -> Object:
    return cluster.get("deployment", f"{NAME}-worker") or {"spec": {}, "status": {}}


def ready(cluster: Cluster) -> int:
    return int(deployment(cluster)["status"].get("readyReplicas", 0))


def is_ready(cluster: Cluster) -> Any:
    return condition(cluster, "Ready", "True")


def test_a_version_that_crashes_leaves_the_one_before_at_work(
    cluster: Cluster, installed: float, report: list[str], gone: None
) -> None:
    apply(cluster, "shop.tasks:app", 2)
    eventually(lambda: is_ready(cluster) and ready(cluster) == 2, 120, "two workers are ready")
    apply(cluster, "shop.absent:app", 2)
    paused = eventually(lambda: condition(cluster, "RolloutPaused", "True"), 120, "the rollout is paused")
    report.append(f"paused rollout: {paused['message']}")
    assert "1 of 1 new pods fails" in paused["message"]
    assert "exit code" in paused["message"]
    assert "shop.absent" in paused["message"], "the last words of the pod"
    assert deployment(cluster)["spec"]["paused"] is True
    assert ready(cluster) == 2

    apply(cluster, "shop.absent:app", 4)
    eventually(lambda: ready(cluster) >= 3, 120, "the version before is scaled out, in proportion")
    apply(cluster, "shop.absent:app", 1)
    eventually(lambda: deployment(cluster)["status"].get("replicas") == 2, 120, "and in, with one more as a rollout may have")
    assert ready(cluster) >= 1
    assert deployment(cluster)["spec"]["paused"] is True

    apply(cluster, "shop.tasks:app", 2)
    eventually(lambda: is_ready(cluster) and ready(cluster) == 2, 180, "the next version is rolled out")
    assert not deployment(cluster)["spec"].get("paused")


def test_without_an_old_worker_nothing_is_paused(cluster: Cluster, installed: float, gone: None) -> None:
    """There is nothing to protect, and the mended version must come up."""
    apply(cluster, "shop.absent:app", 1)
    eventually(lambda: condition(cluster, "Ready", "False"), 120, "the worker crashes")
    assert not deployment(cluster)["spec"].get("paused")
    apply(cluster, "shop.tasks:app", 1)
    eventually(lambda: is_ready(cluster) and ready(cluster) == 1, 180, "the mended version runs")
