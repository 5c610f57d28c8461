"""Workers that import for long, freeze, or hold the interpreter lock, in real pods with real probes."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.clusters import Cluster, Object, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.timeout(900)]

IMAGE = "stoker.dev/test/script:1"
IMPORT_SECONDS = 75
FROZEN_FOR = 90.0
"""Three failed liveness probes, ten seconds apart and of five seconds each, ten seconds of grace, a start, and a busy machine."""
HELD_SECONDS = 15

QUEUES: dict[str, dict[str, Any]] = {
    "patient": {"env": [{"name": "IMPORT_SECONDS", "value": str(IMPORT_SECONDS)}]},
    "hasty": {"env": [{"name": "IMPORT_SECONDS", "value": str(IMPORT_SECONDS)}], "startupTimeout": "10s"},
    "frozen": {},
    "holding": {},
    "assigned": {"userIds": "Cluster"},
}


@pytest.fixture(scope="module")
def queues(cluster: Cluster, installed: float) -> Iterator[float]:
    """All of them at once, one worker each. The moment at which they were applied."""
    began = time.monotonic()
    for name, worker in QUEUES.items():
        spec = {"worker": {"image": IMAGE, "app": "stubborn:app", **worker}, "replicas": 1, "lease": {"duration": "10s"}}
        manifest = {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": name}, "spec": spec}
        cluster.kubectl("apply", "-f", "-", given=json.dumps(manifest))
    yield began
    cluster.kubectl("delete", "taskqueues", "--all", "--timeout=120s")
    eventually(lambda: not cluster.all("pods", "app.kubernetes.io/name=stoker-worker"), 120, "the workers' pods are gone")


def test_a_worker_that_froze_is_replaced_long_before_its_grace_ends(cluster: Cluster, queues: float, report: list[str]) -> None:
    """Its pod may take 11 minutes to terminate; what fails the liveness probe has ten seconds. Its task runs again."""
    enqueue(cluster, "frozen", "freeze_once", "frozen-1")
    eventually(lambda: ledger(cluster, "frozen-1 began"), 60, "the task has begun")
    froze = time.monotonic()
    eventually(lambda: restarts(cluster, "frozen") >= 1, FROZEN_FOR, "the frozen container was restarted")
    report.append(f"a frozen worker: restarted {time.monotonic() - froze:.1f} s after it froze")
    eventually(lambda: ledger(cluster, "frozen-1 ended"), 60, "the task ran again")
    report.append(f"a frozen worker: its task had run again {time.monotonic() - froze:.1f} s after it froze")
    assert ledger(cluster, "frozen-1 began") == 2


def test_the_task_that_holds_the_interpreter_lock_is_named_in_the_log(cluster: Cluster, queues: float, report: list[str]) -> None:
    """Shorter than the probes' patience: the worker lives, and says which task it was and where."""
    enqueue(cluster, "holding", "hold_the_lock", "held-1", f"seconds={HELD_SECONDS}")

    def named() -> str | None:
        lines = cluster.kubectl("logs", "deployment/holding-worker", "--tail=-1").splitlines()
        return next((line for line in lines if "interpreter lock" in line and "hold_the_lock" in line), None)

    line = eventually(named, 120, "the log names the task that held the lock")
    assert "stubborn.py" in line
    assert restarts(cluster, "holding") == 0
    report.append(f"the interpreter lock: {line[:200]}")


def test_user_ids_can_be_left_to_the_cluster(cluster: Cluster, queues: float) -> None:
    """No id in the pod: the image's own numeric user passes as non-root."""
    pod = eventually(lambda: ready_pod(cluster, "assigned"), 90, "the worker is ready")
    assert "runAsUser" not in pod["spec"]["securityContext"]
    script = "import os; print(os.getuid())"
    assert int(cluster.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", script)) > 0


def test_a_worker_listens_for_both_families_of_addresses(cluster: Cluster, queues: float) -> None:
    """Probes of a cluster with IPv6 alone reach it; here, its own loopback of that family."""
    pod = eventually(lambda: ready_pod(cluster, "assigned"), 90, "the worker is ready")
    script = (
        "import urllib.request as http, os; port = os.environ.get('STOKER_PORT', '9090');"
        "print([http.urlopen(f'http://{host}:{port}/livez').status for host in ('127.0.0.1', '[::1]')])"
    )
    assert cluster.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", script).strip() == "[200, 200]"


def test_an_application_that_imports_for_over_a_minute_starts(cluster: Cluster, queues: float, report: list[str]) -> None:
    """No probe ends it; one whose `startupTimeout` is too short for it is ended, and the condition says by which probe."""
    pod = eventually(lambda: ready_pod(cluster, "patient"), IMPORT_SECONDS + 90, "the worker is ready")
    assert time.monotonic() - queues >= IMPORT_SECONDS
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    said = eventually(lambda: ready_condition(cluster, "hasty", "startup probe"), 120, "the condition names the startup probe")
    report.append(f"startupTimeout too short: {said['reason']}: {said['message']}")


def enqueue(cluster: Cluster, queue: str, task: str, task_id: str, *arguments: str) -> None:
    eventually(lambda: ready_pod(cluster, queue), 90, f"the worker of {queue} is ready")
    command = ("stoker", "enqueue", task, *arguments, "--queue", queue, "--id", task_id)
    cluster.kubectl("exec", f"deployment/{queue}-worker", "--", *command)


def pods(cluster: Cluster, queue: str) -> list[Object]:
    return cluster.all("pods", f"stoker.dev/taskqueue={queue}")


def ready_pod(cluster: Cluster, queue: str) -> Object | None:
    """A pod of the queue whose worker is ready."""
    for pod in pods(cluster, queue):
        if any(state["ready"] for state in pod["status"].get("containerStatuses", ())):
            return pod
    return None


def restarts(cluster: Cluster, queue: str) -> int:
    return sum(state["restartCount"] for pod in pods(cluster, queue) for state in pod["status"].get("containerStatuses", ()))


def ready_condition(cluster: Cluster, queue: str, words: str) -> Object | None:
    """The condition Ready, if it is False and its message has these words."""
    found: list[Object] = (cluster.get("taskqueue", queue) or {}).get("status", {}).get("conditions", [])
    return next(
        (each for each in found if each["type"] == "Ready" and each["status"] == "False" and words in each["message"]), None
    )


def ledger(cluster: Cluster, what: str) -> int:
    """How often this happened."""
    written: dict[str, str] = cluster.redis("HGETALL", f"{{{cluster.namespace}}}:ledger")
    return int(written.get(what, 0))
