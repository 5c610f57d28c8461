"""When Redis is away, slow, full or says no: a quick, clear answer, and everything works again by itself."""

import asyncio
import time

import httpx

from stoker.client.client import Client
from stoker.gateway.app import create_app
from tests.redis_servers import Valkey, running_valkey

REQUESTS = [
    ("POST", "/v1/tasks"),
    ("POST", "/v1/tasks/batch"),
    ("GET", "/v1/tasks/x"),
    ("GET", "/v1/tasks?queue=q"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/queues"),
    ("GET", "/v1/queues/q"),
    ("GET", "/v1/dead?queue=q"),
    ("POST", "/v1/dead/redrive?queue=q"),
    ("POST", "/v1/dead/x/redrive"),
    ("DELETE", "/v1/dead/x"),
    ("GET", "/readyz"),
]
BODIES = {"/v1/tasks": {"task": "t", "queue": "q"}, "/v1/tasks/batch": [{"task": "t", "queue": "q"}]}


async def test_redis_stops_in_the_middle_and_comes_back(fragile: httpx.AsyncClient, own_valkey: Valkey) -> None:
    assert (await fragile.post("/v1/tasks", json=BODIES["/v1/tasks"])).status_code == 202
    own_valkey.stop()
    for method, address in REQUESTS:
        began = time.monotonic()
        answer = await fragile.request(method, address, json=BODIES.get(address))
        assert (answer.status_code, method, address) == (503, method, address)
        assert time.monotonic() - began < 3
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:stoker:problem:redis-unavailable"
    assert (await fragile.get("/healthz")).status_code == 200
    own_valkey.start()
    assert (await fragile.get("/readyz")).status_code == 200
    task_id = (await fragile.post("/v1/tasks", json=BODIES["/v1/tasks"])).json()["task_id"]
    assert (await fragile.get(f"/v1/tasks/{task_id}?queue=q")).json()["state"] == "ready"


async def test_a_redis_that_hangs_is_not_waited_for(fragile: httpx.AsyncClient, own_valkey: Valkey) -> None:
    assert (await fragile.get("/readyz")).status_code == 200
    with own_valkey.frozen():
        began = time.monotonic()
        answers = await asyncio.gather(*(fragile.get("/v1/stats") for _ in range(100)))
        assert {answer.status_code for answer in answers} == {503}
        assert time.monotonic() - began < 5
    assert (await fragile.get("/v1/stats")).status_code == 200


async def test_many_requests_at_once_share_the_connections(api: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(api.post("/v1/tasks", json={"task": "t"}) for _ in range(300)))
    assert {answer.status_code for answer in answers} == {202}
    assert (await api.get("/v1/stats")).json()["all"]["ready"] == 300


async def test_a_full_redis_is_insufficient_storage() -> None:
    with running_valkey("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        answer = await one_request(server.url, "POST", "/v1/tasks")
    assert answer.status_code == 507
    assert answer.json()["type"] == "urn:stoker:problem:redis-full"
    assert "maxmemory" in answer.json()["detail"]
    assert "retry-after" in answer.headers


async def test_a_redis_that_wants_another_password_says_so() -> None:
    with running_valkey("--requirepass", "secret") as server:
        answer = await one_request(server.url.replace("//", "//:wrong@"), "GET", "/readyz")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:stoker:problem:redis-refused"
    assert "credentials" in answer.json()["detail"]


async def one_request(redis_url: str, method: str, address: str) -> httpx.Response:
    client = Client.at(redis_url, "test")
    transport = httpx.ASGITransport(create_app(client))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as api:
        answer = await api.request(method, address, json=BODIES.get(address))
    await client.close()
    return answer
