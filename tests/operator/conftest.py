"""A real API server and a real Valkey around the real operator process.

Pods exist as objects only, so a test says itself what a cluster's controllers would: how many pods are ready, why
one cannot start.
"""

import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.operator.apiserver import ApiServer, running_api_server, unverified
from tests.operator.operating import Cluster, Operator, Queue, Queues, running_operator
from tests.redis_servers import Valkey


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def own_api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One without the operator that other tests share: each test starts its own. It guards owner references, as OpenShift does."""
    guards = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
    with running_api_server(tmp_path_factory.mktemp("apiserver"), guards) as server:
        yield server


@pytest.fixture(scope="session")
def operator(api_server: ApiServer, shared_valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with running_operator(api_server, shared_valkey.url, tmp_path_factory.mktemp("operator")) as running:
        yield running


@asynccontextmanager
async def namespace_of(api_server: ApiServer, operator: Operator) -> AsyncIterator[Cluster]:
    async with namespace_in(api_server) as made:
        yield made
        for item in (await made.call("GET", made.path("taskqueues")))["items"]:
            await made.delete("taskqueues", item["metadata"]["name"])
        assert operator.running.poll() is None, "the operator died"


@asynccontextmanager
async def namespace_in(api_server: ApiServer) -> AsyncIterator[Cluster]:
    """A new namespace, which may have any operator or none."""
    headers = {"Authorization": f"Bearer {api_server.token}"}
    async with httpx.AsyncClient(base_url=api_server.url, headers=headers, verify=unverified(), timeout=10) as http:
        namespace = f"test-{secrets.token_hex(4)}"
        made = Cluster(http, namespace)
        await made.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield made


@pytest.fixture
async def cluster(api_server: ApiServer, operator: Operator) -> AsyncIterator[Cluster]:
    """A namespace of its own, so that tests do not see each other's queues."""
    async with namespace_of(api_server, operator) as made:
        yield made


@pytest.fixture
async def neighbour(api_server: ApiServer, operator: Operator) -> AsyncIterator[Cluster]:
    """A second namespace of the same cluster."""
    async with namespace_of(api_server, operator) as made:
        yield made


@pytest.fixture
async def queues(shared_valkey: Valkey, cluster: Cluster) -> AsyncIterator[Queues]:
    opened: dict[tuple[str, str, str], Queue] = {}

    def find(name: str, url: str = shared_valkey.url, namespace: str = cluster.namespace) -> Queue:
        key = (namespace, name, url)
        return opened.setdefault(key, Queue(url, namespace, name))

    yield find
    for each in opened.values():
        await each.close()


@pytest.fixture
def silent_redis() -> Iterator[str]:
    """The URL of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
