"""?namespace=: queues of one name in two namespaces, through one gateway."""

import httpx
import pytest

from stoker.client.client import Client
from stoker.gateway.backend import NAMESPACES, Backend

TASK = {"task": "greet", "queue": "mail", "id": "one"}


async def test_a_task_is_where_the_request_says_and_nowhere_else(api: httpx.AsyncClient, client: Client) -> None:
    answer = await api.post("/v1/tasks?namespace=shop", json=TASK)
    assert answer.headers["location"] == "/v1/tasks/one?queue=mail&namespace=shop"
    assert (await api.get(answer.headers["location"])).json()["state"] == "ready"
    assert (await api.get("/v1/tasks/one?queue=mail")).status_code == 404
    assert (await api.get("/v1/tasks?queue=mail")).json()["tasks"] == []
    assert (await api.get("/v1/queues")).json() == {"queues": [], "next": None}
    assert (await api.get("/v1/queues?namespace=shop")).json() == {"queues": ["mail"], "next": None}
    [queue] = (await api.get("/v1/stats?namespace=shop")).json()["queues"]
    assert queue["ready"] == 1
    assert (await client.within("shop").status("mail", "one")).task == "greet"


async def test_the_default_is_the_gateways_own(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks", json=TASK)
    assert answer.headers["location"] == "/v1/tasks/one?queue=mail"
    assert (await api.get("/v1/queues?namespace=test")).json() == {"queues": ["mail"], "next": None}


@pytest.mark.parametrize("name", ["", "a:b", "a}b", "a b", "x" * 64])
async def test_what_could_leave_the_namespace_is_refused(api: httpx.AsyncClient, name: str) -> None:
    answer = await api.get("/v1/stats", params={"namespace": name})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "namespace"


async def test_every_path_about_queues_takes_it(api: httpx.AsyncClient) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]
    for path, methods in paths.items():
        for each in methods.values():
            names = [parameter["name"] for parameter in each.get("parameters", [])]
            assert ("namespace" in names) == path.startswith("/v1/"), path


async def test_clients_are_bounded_however_many_namespaces_are_named(client: Client) -> None:
    backend = Backend(client)
    first = backend.within("n0")
    assert backend.within("n0") is first
    for number in range(2 * NAMESPACES):
        backend.within(f"n{number}")
    assert backend.within.cache_info().currsize == NAMESPACES
