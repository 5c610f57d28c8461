"""Upgrades under load: the next release is the same code under another version, so that only the upgrade itself can lose a task."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from tests.cluster.clusters import CHECKOUT, Cluster, Object, eventually
from tests.cluster.conftest import VALUES
from tests.cluster.emails import WORKERS, apply_sample, enqueue, everyone_ran

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.timeout(1200)]

OPERATOR, SHOP = "stoker.dev/operator:0.1.1", "stoker.dev/examples/shop:0.1.1"
BATCH = 400


@contextmanager
def load(cluster: Cluster, first: int) -> Iterator[list[str]]:
    """A producer that enqueues until the block ends. The ids of its tasks."""
    ids: list[str] = []
    ended = Event()

    def produce() -> None:
        number = first
        while not ended.is_set():
            ids.extend(enqueue(cluster, "python", number, BATCH))
            number += BATCH

    producer = Thread(target=produce)
    producer.start()
    try:
        eventually(lambda: ids, 60, "the first tasks are enqueued")
        yield ids
    finally:
        ended.set()
        producer.join(120)
    assert not producer.is_alive()


def pods(cluster: Cluster) -> dict[str, Object]:
    return {pod["metadata"]["name"]: pod for pod in cluster.all("pods", WORKERS)}


def test_an_upgrade_of_the_operator_rolls_no_worker_and_loses_no_task(
    cluster: Cluster, installed: float, report: list[str], gone: None
) -> None:
    """`helm upgrade` to the next operator, while tasks are enqueued and run."""
    cluster.provide(OPERATOR, "tests/cluster", "tests/cluster/next-operator.Dockerfile")
    apply_sample(cluster)
    values = [f"--set={value}" for value in VALUES]
    with load(cluster, 20_001) as ids:
        template = eventually(lambda: cluster.get("deployment", "emails-worker"), 60, "the workers")["spec"]["template"]
        began = time.monotonic()
        cluster.helm("upgrade", "stoker", str(CHECKOUT / "charts" / "stoker"), *values, f"--set=operator.image={OPERATOR}")
        cluster.kubectl("rollout", "status", "deployment/stoker-operator", "--timeout=120s", within=150)
        report.append(f"operator upgrade: {time.monotonic() - began:.1f} s, {len(ids)} tasks enqueued meanwhile")
        enqueued = len(ids)
        eventually(lambda: len(ids) > enqueued, 120, "more tasks after the upgrade")
    deployment = cluster.get("deployment", "emails-worker")
    assert deployment is not None
    assert deployment["spec"]["template"] == template
    ran = eventually(lambda: everyone_ran(cluster, ids), 240, f"all {len(ids)} tasks in the ledger")
    report.append(f"operator upgrade: {len(ids)} tasks, 0 lost, {sum(ran.values()) - len(ids)} ran twice")


def test_an_upgrade_of_the_workers_under_load_loses_no_task(
    cluster: Cluster, installed: float, report: list[str], gone: None
) -> None:
    """A new image in the TaskQueue: workers of both releases serve one queue until the old ones have drained."""
    cluster.provide(SHOP, "tests/cluster", "tests/cluster/next-shop.Dockerfile")
    apply_sample(cluster)
    cluster.kubectl("patch", "taskqueue", "emails", "--type=merge", "-p", json.dumps({"spec": {"scaling": {"minReplicas": 2}}}))
    with load(cluster, 60_001) as ids:
        old = eventually(lambda: len(pods(cluster)) >= 2 and pods(cluster), 90, "two workers")
        cluster.kubectl("patch", "taskqueue", "emails", "--type=merge", "-p", json.dumps({"spec": {"worker": {"image": SHOP}}}))
        began = time.monotonic()
        eventually(lambda: not set(old) & set(pods(cluster)) and pods(cluster), 180, "the old workers have drained")
        report.append(f"worker upgrade: {time.monotonic() - began:.1f} s, {len(ids)} tasks enqueued meanwhile")
    images = {container["image"] for pod in pods(cluster).values() for container in pod["spec"]["containers"]}
    assert images == {SHOP}
    ran = eventually(lambda: everyone_ran(cluster, ids), 240, f"all {len(ids)} tasks in the ledger")
    report.append(f"worker upgrade: {len(ids)} tasks, 0 lost, {sum(ran.values()) - len(ids)} ran twice")
