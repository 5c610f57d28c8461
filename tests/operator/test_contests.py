"""Other controllers that change what the operator sets: it says who, steps back, and goes on when they stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.operator.apiserver import ApiServer
from tests.operator.operating import FAST, Cluster, Operator, Queues, running_operator, unique, until
from tests.redis_servers import Valkey


@contextlib.asynccontextmanager
async def meddling(act: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Another controller, which looks ten times a second."""

    async def run() -> None:
        while True:
            await act()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def image(deployment: Any) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_who_changes_the_deployment_back_is_named_and_not_fought(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    body = {"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "theirs:1"}]}}}}
    path = cluster.path("deployments", f"{name}-worker") + "?fieldManager=image-updater"

    async def change() -> None:
        if image(await cluster.get("deployments", f"{name}-worker")) != "theirs:1":
            await cluster.call("PATCH", path, body, "application/strategic-merge-patch+json")

    async with meddling(change):
        contested = await cluster.condition(name, "Contested", "True", "SpecContested")
        assert "image-updater keeps changing spec.template.spec.containers[worker].image" in contested["message"]
        await cluster.condition(name, "Ready", "False", "SpecContested")
        before = (await cluster.workers(name))["metadata"]["generation"]
        await asyncio.sleep(6)
        after = (await cluster.workers(name))["metadata"]["generation"]
        assert after - before <= 6, "it goes on fighting"  # two changes a round, in pauses of 2 s, 4 s, 8 s
    await cluster.told(name, "SpecContested")

    async def put_right() -> bool:
        return image(await cluster.workers(name)) == "shop:1"

    await until(put_right, 30)


async def test_another_scaler_is_named_and_not_fought_until_the_spec_changes(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={**FAST, "minReplicas": 1})
    await cluster.workers(name)
    path = cluster.path("deployments", f"{name}-worker") + "/scale?fieldManager=kube-controller-manager"

    async def scale() -> None:
        """As a HorizontalPodAutoscaler with minReplicas 3."""
        if (await cluster.get("deployments", f"{name}-worker"))["spec"]["replicas"] < 3:
            await cluster.call("PATCH", path, {"spec": {"replicas": 3}}, "application/merge-patch+json")

    async with meddling(scale):
        contested = await cluster.condition(name, "Contested", "True", "ReplicasContested")
        assert "a HorizontalPodAutoscaler (kube-controller-manager) keeps changing the replicas" in contested["message"]
        await cluster.condition(name, "ScalingActive", "False", "ReplicasContested")
        await cluster.replicas(name, 3)
        before = (await cluster.workers(name))["metadata"]["generation"]
        await asyncio.sleep(2)
        assert (await cluster.workers(name))["metadata"]["generation"] == before, "it goes on fighting"
    await cluster.apply(name, scaling={**FAST, "minReplicas": 2})
    await cluster.replicas(name, 2)

    async def over() -> bool:
        status = (await cluster.get("taskqueues", name))["status"]
        return "Contested" not in [condition["type"] for condition in status["conditions"]]

    await until(over)


async def test_a_second_installation_says_who_serves_the_queue_and_does_nothing(
    cluster: Cluster, queues: Queues, operator: Operator, api_server: ApiServer, own_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={**FAST, "minReplicas": 1})
    before = await cluster.workers(name)
    assert before["metadata"]["annotations"]["stoker.dev/installation"] == "default/stoker-operator"
    other = {"STOKER_INSTALLATION": "team/stoker-operator", "STOKER_CLUSTER_ID": "x", "STOKER_WATCH_NAMESPACES": cluster.namespace}
    with running_operator(api_server, own_valkey.url, tmp_path, **other):
        contested = await cluster.condition(name, "Contested", "True", "ServedElsewhere")
        assert contested["message"].startswith("served by operator default/stoker-operator")
        assert (await cluster.workers(name))["metadata"]["generation"] == before["metadata"]["generation"]
        await queues(name).enqueue(25)
        await cluster.replicas(name, 3)
        await cluster.told(name, "ServedElsewhere", "ScaledUp")
        await cluster.condition(name, "RedisReachable", "True", "Connected")
