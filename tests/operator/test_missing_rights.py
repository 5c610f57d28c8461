"""An operator that lacks a right says so on the TaskQueue, and does what it can. Its API server has no other operator."""

from pathlib import Path
from typing import Any

import httpx

from tests.operator.apiserver import RULES, ApiServer
from tests.operator.operating import FAST, Queue, running_operator, unique, until
from tests.operator.tenant_operator import OWN_REDIS, grant, namespace_with, served, settings, withdraw
from tests.redis_servers import Valkey


def secrets_by_name(*names: str) -> list[dict[str, Any]]:
    """All rules, with the right to read these Secrets alone."""
    others = [rule for rule in RULES if rule["resources"] != ["secrets"]]
    return [*others, {"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(names), "verbs": ["get"]}]


async def test_a_secret_that_the_operator_may_not_read_is_a_condition_with_one_event(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    async with served(own_api_server, shared_valkey.url, tmp_path, secrets_by_name("another")) as cluster:
        await cluster.apply(name, redis=OWN_REDIS, scaling=FAST)
        ready = await cluster.condition(name, "Ready", "False", "RightMissing")
        assert 'cannot get resource "secrets"' in ready["message"]
        await cluster.apply(name, redis=OWN_REDIS, scaling={**FAST, "maxReplicas": 3})

        async def observed() -> bool:
            status = (await cluster.get("taskqueues", name))["status"]
            return bool(status["observedGeneration"] == 2)

        await until(observed)
        await cluster.told(name, "RightMissing")


async def test_workers_start_without_the_right_to_read_the_secrets_of_their_environment(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    """Only the kubelet needs them; the operator reads them to roll the workers when one changes."""
    name = unique("emails")
    worker = {"image": "shop:1", "app": "shop:app", "envFrom": [{"secretRef": {"name": "not-ours-to-read"}}]}
    async with served(own_api_server, shared_valkey.url, tmp_path, secrets_by_name("redis")) as cluster:
        await cluster.apply(name, redis=OWN_REDIS, worker=worker, scaling=FAST)
        await cluster.workers(name)
        await cluster.condition(name, "Ready", "True", "ScaledToZero")


async def test_without_the_right_to_list_pods_the_queue_is_scaled_and_the_right_is_named(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    rules = [rule if rule["resources"] != ["pods"] else {**rule, "verbs": ["watch"]} for rule in RULES]
    async with served(own_api_server, shared_valkey.url, tmp_path, rules) as cluster:
        await cluster.apply(name, redis=OWN_REDIS, scaling=FAST)
        await cluster.workers(name)
        queue = Queue(shared_valkey.url, cluster.namespace, name)
        await queue.enqueue(25)
        await cluster.replicas(name, 3)
        ready = await cluster.condition(name, "Ready", "False", "RightMissing")
        assert 'cannot list resource "pods"' in ready["message"]
        await queue.close()


async def test_a_watched_namespace_that_goes_leaves_the_others_and_is_picked_up_when_it_is_back(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    url, name = shared_valkey.url, unique("emails")
    async with namespace_with(own_api_server, url, RULES) as one, namespace_with(own_api_server, url, RULES) as other:
        fast = {"STOKER_RESYNC": "500ms"}
        with running_operator(own_api_server, url, tmp_path, **settings(own_api_server, one, other), **fast) as operator:
            for each in (one, other):
                await each.apply(name, redis=OWN_REDIS, scaling={**FAST, "minReplicas": 1})
                await each.replicas(name, 1)
            await withdraw(other)

            async def noticed() -> bool:
                return any("cannot list TaskQueues" in line["message"] for line in operator.said())

            await until(noticed)
            await one.apply(name, redis=OWN_REDIS, scaling={**FAST, "minReplicas": 2})
            await one.replicas(name, 2)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator.port}") as http:
                assert (await http.get("/livez")).status_code == 200
            await grant(other)
            await other.apply(name, redis=OWN_REDIS, scaling={**FAST, "minReplicas": 3})
            await other.replicas(name, 3)
