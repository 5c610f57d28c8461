"""A real API server and a real Valkey around the real operator process.

Pods exist as objects only, so a test says itself what a cluster's controllers would: how many pods are ready, why
one cannot start.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from apiserver import ApiServer, running_api_server, unverified
from operating import Cluster, Operator, Tasks, running_operator

from servers import Valkey


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
async def tasks() -> AsyncIterator[Callable[[str, str], Tasks]]:
    made: list[Tasks] = []

    def make(url: str, queue: str) -> Tasks:
        made.append(Tasks(url, queue))
        return made[-1]

    yield make
    for each in made:
        await each.close()
