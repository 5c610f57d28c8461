"""A restart that finds nothing changed: it writes nothing, and takes from lists what they bring."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from tests.operator.apiserver import RULES, ApiServer
from tests.operator.operating import FAST, Cluster, Operator, running_operator, until
from tests.operator.tenant_operator import OWN_REDIS, namespace_with, settings
from tests.redis_servers import Valkey

QUEUES = 20


async def versions(cluster: Cluster) -> dict[str, str]:
    """Of every TaskQueue and Deployment: any write changes it."""
    found = [item for kind in ("taskqueues", "deployments") for item in (await cluster.call("GET", cluster.path(kind)))["items"]]
    return {f"{each['metadata']['name']}": each["metadata"]["resourceVersion"] for each in found}


async def decided(operator: Operator) -> None:
    """Wait until the autoscaler has decided about every queue some times."""

    async def often() -> Any:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator.port}") as http:
            page = (await http.get("/metrics")).text
        counts = [float(line.split()[-1]) for line in page.splitlines() if line.startswith("stoker_scaling_decisions_total{")]
        return sum(counts) >= 5 * QUEUES

    await until(often, 30)


async def reads(cluster: Cluster) -> int:
    """GETs of single TaskQueues and Deployments that the API server has answered."""
    page = (await cluster.http.get("/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith("apiserver_request_total{") and 'verb="GET"' in line]
    wanted = [line for line in lines if 'resource="deployments"' in line or 'resource="taskqueues"' in line]
    return round(sum(float(line.split()[-1]) for line in wanted))


async def test_a_restart_that_finds_nothing_changed_writes_nothing(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    async with namespace_with(own_api_server, shared_valkey.url, RULES) as cluster:
        names = [f"queue-{number}" for number in range(QUEUES)]
        await asyncio.gather(*(cluster.apply(name, redis=OWN_REDIS, scaling=FAST) for name in names))
        chosen = settings(own_api_server, cluster)
        with running_operator(own_api_server, shared_valkey.url, tmp_path, **chosen) as first:
            for name in names:
                await cluster.condition(name, "ScalingActive", "True", "Scaling")
            await decided(first)
        before, read = await versions(cluster), await reads(cluster)
        (folder := tmp_path / "second").mkdir()
        with running_operator(own_api_server, shared_valkey.url, folder, **chosen) as second:
            await decided(second)
            assert await versions(cluster) == before
            assert await reads(cluster) - read < QUEUES
