"""The operator as a process: how it starts, stops, comes back, and what it may do."""

import asyncio
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx

from tests.operator.apiserver import ApiServer
from tests.operator.operating import FAST, Cluster, Queues, running_operator, unique, until
from tests.redis_servers import free_port


async def only_here(cluster: Cluster, api_server: ApiServer) -> dict[str, str]:
    """The settings of an operator that has rights in this namespace alone."""
    await cluster.call(
        "POST",
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{cluster.namespace}/rolebindings",
        {
            "metadata": {"name": "tenant"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "operator"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tenant"}],
        },
    )
    # This user may not read the UID of kube-system, which the other operator takes for the cluster's id.
    uid = (await cluster.call("GET", "/api/v1/namespaces/kube-system"))["metadata"]["uid"]
    return {"STOKER_WATCH_NAMESPACES": cluster.namespace, "STOKER_CLUSTER_ID": uid, "KUBECONFIG": str(api_server.tenant)}


async def test_it_serves_only_the_namespaces_it_is_given_with_rights_there_alone(
    cluster: Cluster, api_server: ApiServer, redis_url: str, tmp_path: Path
) -> None:
    name = unique("emails")
    with running_operator(api_server, redis_url, tmp_path, **await only_here(cluster, api_server)) as tenant:
        await cluster.apply(name, scaling=FAST)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{tenant.port}") as http:

            async def known() -> bool:
                return f'stoker_queue_tasks{{namespace="{cluster.namespace}",queue="{name}"' in (await http.get("/metrics")).text

            await until(known)
            namespaces = {line.split('"')[1] for line in (await http.get("/metrics")).text.splitlines() if 'namespace="' in line}
            assert namespaces == {cluster.namespace}
        assert not [entry for entry in tenant.said() if entry["level"] == "error"]


async def test_a_changed_secret_rolls_the_workers(cluster: Cluster, api_server: ApiServer, redis_url: str, tmp_path: Path) -> None:
    """No watch tells of Secrets, which would take the right to list them all: the poller finds it."""
    name = unique("emails")
    await cluster.secret("cache", url=redis_url)
    await cluster.apply(name, redis={"urlSecretRef": {"name": "cache"}})
    before = await cluster.workers(name)
    with running_operator(api_server, redis_url, tmp_path, **await only_here(cluster, api_server)):
        await cluster.secret("cache", url=redis_url + "?socket_timeout=5")

        async def rolled() -> bool:
            return bool((await cluster.workers(name))["spec"]["template"] != before["spec"]["template"])

        await until(rolled)


async def test_a_restart_changes_nothing_and_takes_nobody_away(
    cluster: Cluster, api_server: ApiServer, redis_url: str, queues: Queues, tmp_path: Path
) -> None:
    """A newcomer knows nothing of the last minutes, so it takes no worker away before it has watched for a while."""
    name = unique("emails")
    patient = {**FAST, "idleAfter": "1m", "scaleDown": {"stabilization": "1m"}}
    await cluster.apply(name, scaling=patient)
    await cluster.workers(name)
    await queues(name).enqueue(35)
    await cluster.replicas(name, 4)
    await queues(name).drain()
    before = await cluster.get("deployments", f"{name}-worker")

    with running_operator(api_server, redis_url, tmp_path) as second:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{second.port}") as http:

            async def decided() -> bool:
                text = (await http.get("/metrics")).text
                return f'stoker_scaling_desired_replicas{{namespace="{cluster.namespace}",queue="{name}"}} 4.0' in text

            await until(decided)
        second.running.terminate()
        # kopf gives tasks of its own that are slow to end five seconds; a pod has thirty.
        assert second.running.wait(10) == 0
    after = await cluster.get("deployments", f"{name}-worker")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    await cluster.told(name, "ScaledUp")


async def test_its_own_status_writes_cost_no_reconcile(
    cluster: Cluster, api_server: ApiServer, redis_url: str, queues: Queues, tmp_path: Path
) -> None:
    """They come back as watch events. An edit of the TaskQueue costs one."""
    name = unique("emails")
    await cluster.apply(name, scaling={"paused": "All"})
    await cluster.condition(name, "ScalingActive", "False", "Paused")
    with running_operator(api_server, redis_url, tmp_path, **await only_here(cluster, api_server)) as tenant:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{tenant.port}") as http:

            async def reconciles() -> int:
                [count] = re.findall(r"stoker_reconcile_duration_seconds_count (\d+)", (await http.get("/metrics")).text)
                return int(count)

            async def shows(ready: int) -> bool:
                assert (await cluster.get("taskqueues", name))["status"]["queue"]["ready"] == ready
                return True

            async def settled() -> int:
                before = await reconciles()
                await asyncio.sleep(1)
                return before if before and before == await reconciles() else 0

            before = await until(settled)
            for ready in (1, 2):
                await queues(name).enqueue(1)
                await until(partial(shows, ready))
            await cluster.patch("taskqueues", name, {"metadata": {"annotations": {"note": "edited"}}})

            async def counted() -> bool:
                return await reconciles() > before

            await until(counted)
            assert await reconciles() == before + 1


def start(kubeconfig: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "KUBECONFIG": kubeconfig, "STOKER_PORT": str(free_port()), "STOKER_HOST": "127.0.0.1"}
    command = [sys.executable, "-m", "stoker_operator", "--log-format", "json"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)


def test_without_a_cluster_it_says_what_to_do(tmp_path: Path) -> None:
    ended = start(str(tmp_path / "nothing"))
    assert ended.returncode == 1
    assert "Run in a pod, or set KUBECONFIG" in ended.stderr
    assert "Traceback" not in ended.stderr
