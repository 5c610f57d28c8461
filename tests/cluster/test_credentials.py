"""Two tenants of one installation, in pods: each enqueues with one `envFrom`, and reaches nothing of the other."""

import json
from collections.abc import Iterator

import pytest

from tests.cluster.clusters import Cluster, Object, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


@pytest.fixture(scope="module")
def tenants(cluster: Cluster, installed: float) -> Iterator[tuple[Cluster, Cluster]]:
    """Two namespaces beside the installation's, each with the smallest TaskQueue."""
    both = cluster.elsewhere("stoker-cluster-shop"), cluster.elsewhere("stoker-cluster-shopping")
    try:
        for tenant in both:
            cluster.run("kubectl", "create", "namespace", tenant.namespace)
            worker = {"image": "stoker.dev/examples/shop:0.1.0", "app": "shop.tasks:app"}
            tenant.kubectl("apply", "-f", "-", given=json.dumps(task_queue(worker)))
        for tenant in both:
            tenant.credentials()
        yield both
    finally:
        for tenant in both:
            tenant.kubectl("delete", "taskqueues", "--all", "--timeout=60s")
            cluster.run("kubectl", "delete", "namespace", tenant.namespace, "--timeout=100s")


def task_queue(worker: Object) -> Object:
    metadata = {"name": "emails"}
    return {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": metadata, "spec": {"worker": worker}}


def in_a_pod(tenant: Cluster, name: str, *arguments: str) -> tuple[str, str]:
    """How a pod with `envFrom: stoker-redis` that runs `stoker ARGUMENTS` ended, and what it wrote."""
    container = {
        "name": "stoker",
        "image": "stoker.dev/examples/shop:0.1.0",
        "args": list(arguments),
        "envFrom": [{"secretRef": {"name": "stoker-redis"}}],
        "securityContext": RESTRICTED,
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "securityContext": security, "containers": [container]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    tenant.kubectl("apply", "-f", "-", given=json.dumps(manifest))

    def ended() -> str | None:
        phase = (tenant.get("pod", name) or {}).get("status", {}).get("phase")
        return phase if phase in {"Succeeded", "Failed"} else None

    return eventually(ended, 60, f"pod {name} has ended"), tenant.kubectl("logs", name)


def send(tenant: Cluster, pod: str, order: str) -> None:
    ended, said = in_a_pod(
        tenant,
        pod,
        "enqueue",
        "send_email",
        "to=a@example.org",
        "order=1",
        "--queue",
        "emails",
        "--id",
        order,
        "--max-retries",
        "10",
    )
    assert ended == "Succeeded", said


def ran(cluster: Cluster, tenant: Cluster, order: str) -> bool:
    return bool(cluster.redis("HGET", f"{{{tenant.namespace}}}:ledger", order))


def test_each_tenant_enqueues_and_reaches_nothing_of_the_other(cluster: Cluster, tenants: tuple[Cluster, Cluster]) -> None:
    shop, shopping = tenants
    for tenant in tenants:
        send(tenant, "sends", "order-1")
    for tenant in tenants:
        eventually(lambda tenant=tenant: ran(cluster, tenant, "order-1"), 120, f"the task of {tenant.namespace} ran")
    ended, said = in_a_pod(shop, "looks", "stats", "--namespace", shopping.namespace)
    assert ended == "Failed", said
    assert "lacks a permission" in said
    ended, said = in_a_pod(shop, "stats", "stats", "--json")
    assert ended == "Succeeded", said
    assert shopping.namespace not in said


def test_no_manifest_shows_a_password(cluster: Cluster, tenants: tuple[Cluster, Cluster]) -> None:
    everything = cluster.run("kubectl", "get", "deployments,statefulsets,replicasets,pods,taskqueues,events", "-A", "-o", "json")
    passwords = [tenant.credentials()["STOKER_REDIS_URL"].split(":")[2].partition("@")[0] for tenant in tenants]
    passwords.append(cluster.kubectl("exec", "stoker-redis-0", "--", "printenv", "REDISCLI_AUTH").strip())
    assert all(len(password) > 40 and password not in everything for password in passwords)


def test_a_redis_that_restarts_admits_its_tenants_again(cluster: Cluster, tenants: tuple[Cluster, Cluster]) -> None:
    shop, _ = tenants
    cluster.kubectl("delete", "pod", "stoker-redis-0", "--timeout=60s")
    cluster.kubectl("rollout", "status", "statefulset/stoker-redis", "--timeout=60s")
    wanted = {f"stoker.{tenant.namespace}" for tenant in tenants} | {"stoker-gateway"}
    eventually(lambda: wanted <= set(cluster.redis("ACL", "USERS")), 30, "the users are there again")
    send(shop, "sends-again", "order-2")
    eventually(lambda: ran(cluster, shop, "order-2"), 120, "the task ran")
