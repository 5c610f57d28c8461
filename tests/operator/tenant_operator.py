"""An operator whose rights a test chooses, namespace by namespace. Its API server has no other operator."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.operator.apiserver import ApiServer, unverified
from tests.operator.operating import Cluster, running_operator

RBAC = "apis/rbac.authorization.k8s.io/v1"
OWN_REDIS = {"urlSecretRef": {"name": "redis"}}


@asynccontextmanager
async def namespace_with(server: ApiServer, redis_url: str, rules: list[dict[str, Any]]) -> AsyncIterator[Cluster]:
    """A namespace where the tenant's operator has these rights."""
    namespace = f"test-{secrets.token_hex(4)}"
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, verify=unverified(), timeout=10) as http:
        cluster = Cluster(http, namespace)
        await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        await cluster.call("POST", f"/{RBAC}/namespaces/{namespace}/roles", {"metadata": {"name": "operator"}, "rules": rules})
        await grant(cluster)
        await cluster.secret("redis", url=redis_url)
        yield cluster


async def grant(cluster: Cluster) -> None:
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tenant"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    binding = {"metadata": {"name": "operator"}, "roleRef": role, "subjects": [subject]}
    await cluster.call("POST", f"/{RBAC}/namespaces/{cluster.namespace}/rolebindings", binding)


async def withdraw(cluster: Cluster) -> None:
    """As when the namespace is deleted: its Roles go with it."""
    await cluster.call("DELETE", f"/{RBAC}/namespaces/{cluster.namespace}/rolebindings/operator")


def settings(server: ApiServer, *clusters: Cluster) -> dict[str, str]:
    names = ",".join(each.namespace for each in clusters)
    return {"STOKER_CLUSTER_ID": "one", "KUBECONFIG": str(server.tenant), "STOKER_WATCH_NAMESPACES": names}


@asynccontextmanager
async def served(server: ApiServer, redis_url: str, folder: Path, rules: list[dict[str, Any]]) -> AsyncIterator[Cluster]:
    """A namespace, and an operator with these rights in it."""
    async with namespace_with(server, redis_url, rules) as cluster:
        with running_operator(server, redis_url, folder, **settings(server, cluster)):
            yield cluster
