"""A real API server and a real Valkey around the real operator process.

Pods exist as objects only, so a test says itself what a cluster's controllers would: how many pods are ready, why
one cannot start.
"""

import secrets
import socket
from collections.abc import AsyncIterator, Iterator

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
def operator(api_server: ApiServer, shared_valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with running_operator(api_server, shared_valkey.url, tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture
async def cluster(api_server: ApiServer, operator: Operator) -> AsyncIterator[Cluster]:
    """A namespace of its own, so that tests do not see each other's queues."""
    headers = {"Authorization": f"Bearer {api_server.token}"}
    async with httpx.AsyncClient(base_url=api_server.url, headers=headers, verify=unverified(), timeout=10) as http:
        namespace = f"test-{secrets.token_hex(4)}"
        yield_to = Cluster(http, namespace)
        await yield_to.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield yield_to
        for item in (await yield_to.call("GET", yield_to.path("taskqueues")))["items"]:
            await yield_to.delete("taskqueues", item["metadata"]["name"])
        assert operator.running.poll() is None, "the operator died"


@pytest.fixture
async def queues(shared_valkey: Valkey) -> AsyncIterator[Queues]:
    opened: dict[tuple[str, str], Queue] = {}

    def find(name: str, url: str = shared_valkey.url) -> Queue:
        return opened.setdefault((name, url), Queue(url, name))

    yield find
    for each in opened.values():
        await each.close()


@pytest.fixture
def silent_redis() -> Iterator[str]:
    """The URL of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
