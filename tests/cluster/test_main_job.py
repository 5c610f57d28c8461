"""The whole story on a cluster whose pods really run: install, describe a queue, enqueue, watch it drain, clean up.

Every task of the example application writes its id into a ledger, so that each one can be asked: did it run?
"""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.cluster.clusters import CRD, Cluster, Object, eventually
from tests.cluster.emails import WORKERS, apply_sample, enqueue, everyone_ran, workers_wanted

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

FLEET = 'jsonpath={.spec.replicas} {.status.readyReplicas}{"\\n"}'
BACKLOG = 300
"""Waiting tasks for which the sample asks for three workers."""


def test_two_thousand_tasks_wake_workers_and_the_last_worker_leaves(
    cluster: Cluster, installed: float, report: list[str], gone: None
) -> None:
    """From 0 workers to several and back to 0, by tasks from HTTP and from Python, each of which ran."""
    apply_sample(cluster)
    with (
        cluster.watch("deployment", "emails-worker", "-o", FLEET) as fleet,
        cluster.watch("taskqueues", "emails") as table,
    ):
        began = time.monotonic()
        with ThreadPoolExecutor() as both:
            http = both.submit(enqueue, cluster, "http", 1, 1000)
            python = both.submit(enqueue, cluster, "python", 1001, 1000)
            ids = [*http.result(), *python.result()]
        assert sorted(ids) == sorted(f"order-{order}" for order in range(1, 2001))
        report.append(f"2,000 tasks taken within {time.monotonic() - began:.1f} s")

        ran = eventually(lambda: everyone_ran(cluster, ids), 180, "all 2,000 tasks in the ledger")
        report.append(
            f"all of them ran {time.monotonic() - began:.1f} s after the first was sent, {sum(ran.values()) - 2000} of them twice"
        )
        eventually(lambda: workers_wanted(cluster) == 0, 60, "no worker is wanted any more")
        eventually(lambda: not cluster.all("pods", WORKERS), 120, "the last pod is gone")
        report.append(f"the last worker is gone {time.monotonic() - began:.1f} s after the first was sent")
        report.append(f"from helm install to drained and back to zero: {time.monotonic() - installed:.1f} s")

    wanted = course(fleet, began, 0)
    ready = course(fleet, began, 1)
    report.append("workers wanted: " + ", ".join(f"{number} at {at:.1f} s" for at, number in wanted))
    report.append("workers ready:  " + ", ".join(f"{number} at {at:.1f} s" for at, number in ready))
    report.extend(line for _, line in table)
    for numbers in ([number for _, number in wanted], [number for _, number in ready]):
        assert numbers[0] == numbers[-1] == 0
        assert max(numbers) >= 3

    assert queue(cluster) == {"ready": 0, "unclaimed": 0, "running": 0, "scheduled": 0, "dead": 0, "oldestWait": "0s"}
    assert numbers_were_shown([line for _, line in table])


def test_redis_goes_away_and_comes_back(cluster: Cluster, installed: float, report: list[str], gone: None) -> None:
    """The operator says so and holds the workers; when Redis is back they go on by themselves, and nothing is lost."""
    apply_sample(cluster)
    ids = enqueue(cluster, "python", 5001, 3000)
    eventually(lambda: workers_wanted(cluster), 60, "workers are wanted")
    with redis_away(cluster):
        held = workers_wanted(cluster)
        unreachable = eventually(lambda: condition(cluster, "RedisReachable", "False"), 60, "the operator says that Redis is away")
        assert held
        # Longer than idleAfter and the stabilization of the sample together: an empty queue would have emptied the Deployment.
        patience = time.monotonic() + 15
        while time.monotonic() < patience:
            assert workers_wanted(cluster) == held
        assert condition(cluster, "RedisReachable", "False")
    report.append(f"Redis away: {unreachable['reason']}: {unreachable['message']}; {held} workers held")

    eventually(lambda: condition(cluster, "RedisReachable", "True"), 60, "the operator says that Redis is back")
    eventually(lambda: everyone_ran(cluster, ids), 180, "all 3,000 tasks in the ledger")
    eventually(lambda: workers_wanted(cluster) == 0, 60, "no worker is wanted any more")
    restarts = [state["restartCount"] for pod in cluster.all("pods") for state in pod["status"].get("containerStatuses", [])]
    assert sum(restarts) == 0, "an outage of Redis must not restart anybody"


def test_an_image_that_is_not_there_is_named_by_a_condition(
    cluster: Cluster, installed: float, report: list[str], gone: None
) -> None:
    """Ready is False, with the image in its message; so nobody has to look for the pod."""
    image = "stoker.dev/examples/absent:1"
    manifest = {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {"name": "ghost"},
        "spec": {"worker": {"image": image, "app": "shop.tasks:app"}, "scaling": {"minReplicas": 1}},
    }
    cluster.kubectl("apply", "-f", "-", given=json.dumps(manifest))

    def said() -> Object | None:
        found = condition(cluster, "Ready", "False", name="ghost")
        return found if found and image in found["message"] else None

    found = eventually(said, 90, "a condition that names the missing image")
    report.append(f"missing image: {found['reason']}: {found['message']}")


def test_deleting_a_task_queue_removes_its_workers(cluster: Cluster, installed: float) -> None:
    """`kubectl delete tq` takes the Deployment and its pods along: at once, though they have only just started."""
    apply_sample(cluster)
    enqueue(cluster, "python", 9001, BACKLOG)
    eventually(lambda: cluster.all("pods", WORKERS), 60, "workers run")
    cluster.kubectl("delete", "tq", "emails", "--timeout=60s")
    eventually(lambda: cluster.get("deployment", "emails-worker") is None, 60, "the Deployment is gone")
    # Far less than their grace period, at whose end they would be killed.
    eventually(lambda: not cluster.all("pods", WORKERS), 30, "the pods are gone")


def test_uninstalling_leaves_only_the_resource_type(cluster: Cluster, installed: float) -> None:
    """`helm uninstall` removes what it installed, but for the CRD: with it every TaskQueue would go."""
    cluster.helm("uninstall", "stoker", "--wait", "--timeout=120s")
    assert (
        cluster.kubectl("get", "deployments,statefulsets,services,serviceaccounts", "-l", "app.kubernetes.io/part-of=stoker") == ""
    )
    assert CRD in cluster.run("kubectl", "get", "crd", "-o", "name")


def queue(cluster: Cluster) -> Object:
    """The queue's numbers in the TaskQueue's status, once they show it empty."""

    def empty() -> Object | None:
        found = (cluster.get("taskqueue", "emails") or {})["status"]["queue"]
        return found if not found["ready"] + found["running"] else None

    return eventually(empty, 30, "the status shows the empty queue")


def condition(cluster: Cluster, kind: str, status: str, name: str = "emails") -> Object | None:
    """A TaskQueue's condition, if its status is this one."""
    found = (cluster.get("taskqueue", name) or {}).get("status", {}).get("conditions", [])
    return next((each for each in found if each["type"] == kind and each["status"] == status), None)


def course(fleet: Sequence[tuple[float, str]], began: float, column: int) -> list[tuple[float, int]]:
    """How a number of the watched Deployment changed, in seconds since `began`. One that is left out is 0."""
    changes: list[tuple[float, int]] = []
    for at, line in fleet:
        number = int([*line.split(), "0", "0"][column])
        if not changes or changes[-1][1] != number:
            changes.append((at - began, number))
    return changes


def numbers_were_shown(table: Sequence[str]) -> bool:
    """Whether `kubectl get taskqueues` had a line with workers and a backlog, below its headings."""
    headings, *lines = table
    at = {heading: headings.index(heading) for heading in ("REPLICAS", "QUEUED")}

    def number(line: str, heading: str) -> int:
        word = line[at[heading] :].split()[0]
        return int(word) if word.isdecimal() else 0

    return any(number(line, "REPLICAS") > 0 and number(line, "QUEUED") > 0 for line in lines)


@contextmanager
def redis_away(cluster: Cluster) -> Iterator[None]:
    """No Redis meanwhile. Its volume stays."""
    cluster.kubectl("scale", "statefulset/stoker-redis", "--replicas=0")
    eventually(lambda: not cluster.all("pods", "app.kubernetes.io/name=stoker-redis"), 60, "Redis is gone")
    try:
        yield
    finally:
        cluster.kubectl("scale", "statefulset/stoker-redis", "--replicas=1")
        cluster.kubectl("rollout", "status", "statefulset/stoker-redis", "--timeout=60s")
