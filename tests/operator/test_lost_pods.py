"""A worker pod ends, and what it held is given back at once. The lease alone would take half a minute."""

from typing import Any

import httpx

from stoker.queue.records import QueueStats
from tests.operator.operating import Cluster, Operator, Queues, unique, until

AT_ONCE = 5.0
"""Seconds, on a slow machine; a lease is 30."""


async def _pod(cluster: Cluster, queue: str, name: str) -> None:
    template = (await cluster.workers(queue))["spec"]["template"]
    await cluster.create("pods", {"metadata": {"name": name, "labels": template["metadata"]["labels"]}, "spec": template["spec"]})


async def _becomes(cluster: Cluster, name: str, phase: str, state: dict[str, Any]) -> None:
    container = {"name": "worker", "image": "shop:1", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    await cluster.patch("pods", name, {"status": {"phase": phase, "containerStatuses": [container]}}, "/status")


async def _stats(queues: Queues, name: str) -> QueueStats:
    return (await queues(name).inspector.stats([name]))[0]


async def test_an_evicted_pod_gives_its_tasks_back_at_once_and_its_neighbour_keeps_its_own(
    cluster: Cluster, queues: Queues, operator: Operator
) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={"minReplicas": 2})
    await _pod(cluster, name, f"{name}-1")
    await _pod(cluster, name, f"{name}-12")
    await queues(name).enqueue(3)
    broker = queues(name).broker
    for worker, count in ((f"{name}-1-7-abcdef", 2), (f"{name}-12-7-abcdef", 1)):
        assert len((await broker.turn([], count, worker)).deliveries) == count

    await _becomes(cluster, f"{name}-1", "Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}})

    async def given_back() -> bool:
        stats = await _stats(queues, name)
        return (stats.ready, stats.running, stats.totals.lost) == (2, 1, 2)

    await until(given_back, AT_ONCE)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator.port}") as http:
        page = (await http.get("/metrics")).text
    assert f'stoker_tasks_reclaimed_total{{namespace="{cluster.namespace}",queue="{name}"}} 2.0' in page


async def test_a_deleted_pod_whose_container_had_ended(cluster: Cluster, queues: Queues) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={"minReplicas": 1})
    await _pod(cluster, name, f"{name}-1")
    await queues(name).enqueue(1)
    await queues(name).broker.turn([], 1, f"{name}-1-7-abcdef")
    await _becomes(cluster, f"{name}-1", "Running", {"terminated": {"exitCode": 143}})
    assert (await _stats(queues, name)).running == 1
    await cluster.call("DELETE", cluster.path("pods", f"{name}-1") + "?gracePeriodSeconds=0")

    async def given_back() -> bool:
        return (await _stats(queues, name)).ready == 1

    await until(given_back, AT_ONCE)
