"""Images as people build them: the command is a script that does not `exec`, and SIGTERM reaches the script alone."""

import json

import pytest

from tests.cluster.clusters import Cluster, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

LASTS = 8
"""Seconds of the task: much longer than a script without `exec` lives after SIGTERM."""


def test_a_script_without_exec_finishes_its_task_when_it_is_scaled_down(
    cluster: Cluster, installed: float, report: list[str], gone: None
) -> None:
    """The preStop hook drains the worker before any signal: the task runs once, to its end, in the pod that began it."""
    scale(cluster, 1)
    eventually(lambda: ready(cluster), 90, "the worker is ready")
    enqueue = ("stoker", "enqueue", "nap", f"seconds={LASTS}", "--queue", "naps", "--id", "nap-1")
    cluster.kubectl("exec", "deployment/naps-worker", "--", *enqueue)
    eventually(lambda: ledger(cluster).get("nap-1 began"), 30, "the task has begun")

    scale(cluster, 0)
    eventually(lambda: wanted(cluster) == 0, 30, "no worker is wanted any more")
    assert "nap-1 ended" not in ledger(cluster), "the task ended too soon to prove anything"
    eventually(lambda: ledger(cluster).get("nap-1 ended"), 6 * LASTS, "the task has ended")
    eventually(lambda: not cluster.all("pods", "stoker.dev/taskqueue=naps"), 60, "the pod is gone")
    assert ledger(cluster) == {"nap-1 began": "1", "nap-1 ended": "1"}
    report.append("a start script without exec: its task ended before its pod did")


def scale(cluster: Cluster, replicas: int) -> None:
    spec = {"worker": {"image": "stoker.dev/test/script:1"}, "replicas": replicas}
    manifest = {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "naps"}, "spec": spec}
    cluster.kubectl("apply", "-f", "-", given=json.dumps(manifest))


def ready(cluster: Cluster) -> bool:
    found = cluster.get("deployment", "naps-worker") or {}
    return bool(found.get("status", {}).get("readyReplicas"))


def wanted(cluster: Cluster) -> int | None:
    found = cluster.get("deployment", "naps-worker")
    return found["spec"]["replicas"] if found else None


def ledger(cluster: Cluster) -> dict[str, str]:
    """How often naps began and ended."""
    written: dict[str, str] = cluster.redis("HGETALL", f"{{{cluster.namespace}}}:ledger")
    return {key: value for key, value in written.items() if key.startswith("nap-")}
