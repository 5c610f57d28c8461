"""What happens to TaskQueues in the life of a cluster: the last state counts, however it came about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.operator.apiserver import ROOT, RULES, ApiServer, unverified
from tests.operator.operating import FAST, Cluster, Operator, Queues, ready, running_operator, started_operator, unique, until
from tests.operator.tenant_operator import OWN_REDIS, grant, namespace_with, settings, withdraw
from tests.redis_servers import Valkey

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD = f"{CRDS}/taskqueues.stoker.dev"


async def image(cluster: Cluster, name: str) -> str:
    found = await cluster.workers(name)
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_a_taskqueue_that_is_created_again_starts_clean(cluster: Cluster, queues: Queues) -> None:
    """Its predecessor's Deployment has another owner, by UID: no worker of it is taken over."""
    name = unique("emails")
    await cluster.apply(name, scaling={"minReplicas": 3}, deletionPolicy="Delete")
    before = await cluster.workers(name)
    await cluster.condition(name, "Ready", "Unknown", "WorkersStarting")
    await cluster.delete("taskqueues", name)
    await cluster.apply(name, scaling={"minReplicas": 1}, worker={"image": "shop:2", "app": "shop:app"})
    taken = await cluster.condition(name, "Ready", "False", "NameTaken")
    assert "an earlier TaskQueue of this name" in taken["message"]
    assert (await cluster.get("deployments", f"{name}-worker"))["spec"] == before["spec"]
    await cluster.delete("deployments", f"{name}-worker")  # as the garbage collector does
    await cluster.replicas(name, 1)
    await cluster.condition(name, "Ready", "Unknown", "WorkersStarting")
    [now] = (await cluster.workers(name))["metadata"]["ownerReferences"]
    assert now["uid"] == (await cluster.get("taskqueues", name))["metadata"]["uid"]
    assert now["uid"] != before["metadata"]["ownerReferences"][0]["uid"]
    assert await image(cluster, name) == "shop:2"


async def test_of_fifty_edits_the_last_one_counts(cluster: Cluster) -> None:
    name = unique("emails")
    for number in range(50):
        await cluster.apply(name, worker={"image": f"shop:{number}", "app": "shop:app"})

    async def last() -> bool:
        queue = await cluster.get("taskqueues", name)
        assert queue["status"]["observedGeneration"] == queue["metadata"]["generation"] == 50
        assert await image(cluster, name) == "shop:49"
        return True

    await until(last)


async def test_a_taskqueue_that_is_deleted_while_it_scales_is_left_alone(
    cluster: Cluster, queues: Queues, operator: Operator
) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    await queues(name).enqueue(50)
    deployment = await cluster.get("deployments", f"{name}-worker")
    while deployment["spec"]["replicas"] == 0:
        deployment = await cluster.get("deployments", f"{name}-worker")
    await cluster.delete("taskqueues", name)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator.port}") as http:

        async def forgotten() -> bool:
            return f'queue="{name}"' not in (await http.get("/metrics")).text

        await until(forgotten)
    before = await cluster.get("deployments", f"{name}-worker")
    await queues(name).enqueue(100)
    for _ in range(5):  # rounds of the autoscaler
        await asyncio.sleep(0.2)
    assert (await cluster.get("deployments", f"{name}-worker"))["spec"] == before["spec"]
    assert not [line for line in operator.said() if line["level"] == "error" and line.get("taskqueue", "").endswith(name)]


@asynccontextmanager
async def admin_of(server: ApiServer) -> AsyncIterator[Cluster]:
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, verify=unverified(), timeout=10) as http:
        yield Cluster(http, "default")


def definition() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "charts/stoker/files/crd.yaml").read_text()))


async def install(admin: Cluster) -> None:
    await admin.call("POST", CRDS, definition())

    async def served() -> bool:
        return (await admin.http.get("/apis/stoker.dev/v1alpha1/taskqueues")).status_code == 200

    await until(served)


async def replace(admin: Cluster, crd: dict[str, Any]) -> None:
    await admin.call("PATCH", CRD, {"spec": crd["spec"]}, "application/merge-patch+json")


async def remove(admin: Cluster) -> None:
    for each in (await admin.call("GET", "/apis/stoker.dev/v1alpha1/taskqueues"))[
        "items"
    ]:  # left by other tests, without an operator
        left = Cluster(admin.http, each["metadata"]["namespace"])
        await left.patch("taskqueues", each["metadata"]["name"], {"metadata": {"finalizers": None}})
    await admin.call("DELETE", CRD)

    async def gone() -> bool:
        return (await admin.http.get(CRD)).status_code == 404

    await until(gone)


@pytest.mark.nightly
async def test_without_its_definition_it_waits_and_an_upgrade_of_it_goes_unnoticed(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    async with namespace_with(own_api_server, shared_valkey.url, RULES) as cluster, admin_of(own_api_server) as admin:
        await remove(admin)
        try:
            with started_operator(own_api_server, shared_valkey.url, tmp_path, **settings(own_api_server, cluster)) as operator:
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator.port}") as http:

                    async def said() -> bool:
                        return any("taskqueues.stoker.dev is not installed" in line["message"] for line in operator.said())

                    await until(said)
                    assert [(await http.get(path)).status_code for path in ("/livez", "/readyz")] == [200, 503]
                    await install(admin)
                    await asyncio.to_thread(ready, operator)
                    await cluster.apply(name, redis=OWN_REDIS, scaling={**FAST, "minReplicas": 1}, deletionPolicy="Delete")
                    await cluster.replicas(name, 1)
                    newer = definition()
                    schema = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
                    schema["properties"]["spec"]["properties"]["fromTheFuture"] = {"type": "string", "maxLength": 10}
                    await replace(admin, newer)

                    async def known() -> bool:
                        found = await cluster.patch("taskqueues", name, {"spec": {"fromTheFuture": "yes"}}, "?dryRun=All")
                        return bool(found["spec"].get("fromTheFuture") == "yes")

                    await until(known)
                    await cluster.apply(name, redis=OWN_REDIS, scaling={**FAST, "minReplicas": 2})
                    await cluster.replicas(name, 2)
                    assert (await http.get("/livez")).status_code == 200
        finally:
            if (await admin.http.get(CRD)).status_code == 404:
                await install(admin)
            else:
                await replace(admin, definition())


@pytest.mark.nightly
async def test_a_definition_that_goes_and_comes_back_is_watched_again(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    async with namespace_with(own_api_server, shared_valkey.url, RULES) as cluster, admin_of(own_api_server) as admin:
        fast = {**settings(own_api_server, cluster), "STOKER_RESYNC": "500ms"}
        with running_operator(own_api_server, shared_valkey.url, tmp_path, **fast):
            await cluster.apply(name, redis=OWN_REDIS, scaling={"minReplicas": 1}, deletionPolicy="Delete")
            await cluster.replicas(name, 1)
            await remove(admin)
            await cluster.delete("deployments", f"{name}-worker")
            await install(admin)
            await cluster.apply(name, redis=OWN_REDIS, scaling={"minReplicas": 2})

            async def served() -> bool:
                found = await cluster.http.get(cluster.path("deployments", f"{name}-worker"))
                return found.status_code == 200 and found.json()["spec"]["replicas"] == 2

            await until(served, 60)


@pytest.mark.nightly
async def test_a_namespace_that_was_deleted_while_the_operator_was_away_or_does_not_exist_yet(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    """It hides no other, and is served when it is there."""
    name, url = unique("emails"), shared_valkey.url
    async with namespace_with(own_api_server, url, RULES) as one, namespace_with(own_api_server, url, RULES) as other:
        chosen = settings(own_api_server, one, other)
        with running_operator(own_api_server, url, tmp_path, **chosen):
            for each in (one, other):
                await each.apply(name, redis=OWN_REDIS, scaling={"minReplicas": 1}, deletionPolicy="Delete")
                await each.replicas(name, 1)
        await other.delete("taskqueues", name)
        await other.delete("deployments", f"{name}-worker")
        await withdraw(other)
        await other.call("DELETE", f"/api/v1/namespaces/{other.namespace}")
        await other.call(
            "PUT", f"/api/v1/namespaces/{other.namespace}/finalize", {"metadata": {"name": other.namespace}, "spec": {}}
        )
        missing = f"{chosen['STOKER_WATCH_NAMESPACES']},test-not-yet"
        fast = {**chosen, "STOKER_WATCH_NAMESPACES": missing, "STOKER_RESYNC": "500ms"}
        (folder := tmp_path / "second").mkdir()
        with running_operator(own_api_server, url, folder, **fast) as second:
            await one.apply(name, redis=OWN_REDIS, scaling={"minReplicas": 2})
            await one.replicas(name, 2)
            assert not [line for line in second.said() if line["level"] == "error"]
            new = Cluster(one.http, "test-not-yet")
            for each in (new, other):  # whose Role is still there: no controller removes what a namespace has
                await each.call("POST", "/api/v1/namespaces", {"metadata": {"name": each.namespace}})
                if each is new:
                    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{each.namespace}/roles"
                    await each.call("POST", roles, {"metadata": {"name": "operator"}, "rules": RULES})
                await grant(each)
                await each.secret("redis", url=url)
                await each.apply(name, redis=OWN_REDIS, scaling={"minReplicas": 3})

            async def served() -> bool:
                found = [await each.http.get(each.path("deployments", f"{name}-worker")) for each in (new, other)]
                return all(each.status_code == 200 and each.json()["spec"]["replicas"] == 3 for each in found)

            await until(served, 60)


@pytest.mark.nightly
async def test_a_watch_that_was_refused_goes_on_when_the_right_is_there(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    rules = [
        {**each, "verbs": ["get", "list", "create", "patch"]} if each["resources"] == ["deployments"] else each for each in RULES
    ]
    async with namespace_with(own_api_server, shared_valkey.url, RULES) as cluster:
        role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{cluster.namespace}/roles/operator"
        await cluster.call("PUT", role, {"metadata": {"name": "operator"}, "rules": rules})
        with started_operator(own_api_server, shared_valkey.url, tmp_path, **settings(own_api_server, cluster)) as operator:

            async def refused() -> bool:
                return any("will retry" in line["message"] for line in operator.said())

            async def served() -> bool:
                found = await cluster.http.get(cluster.path("deployments", f"{name}-worker"))
                return found.status_code == 200

            await until(refused)
            await cluster.apply(name, redis=OWN_REDIS, scaling={"minReplicas": 1}, deletionPolicy="Delete")
            await until(served)
            await cluster.call("PUT", role, {"metadata": {"name": "operator"}, "rules": RULES})
            await cluster.delete("deployments", f"{name}-worker")
            await until(served, 60)
