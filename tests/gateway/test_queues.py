"""Names of queues: forgetting one, and taking tasks for known ones alone."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stoker.client.client import Client
from stoker.gateway.app import create_app
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.redis.connect import connect
from stoker.rules.identity import Holder
from stoker.rules.states import TaskState


async def test_a_queue_is_forgotten_once_it_is_not_used(api: httpx.AsyncClient, client: Client) -> None:
    await api.post("/v1/tasks", json={"task": "t", "queue": "q"})
    answer = await api.delete("/v1/queues/q")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:stoker:problem:queue-in-use")
    assert "'q' has tasks" in answer.json()["detail"]
    assert [gone async for gone in client.inspector.purge("q", TaskState.READY)] == [1]
    assert (await api.delete("/v1/queues/q")).status_code == 204
    assert (await api.get("/v1/queues")).json()["queues"] == []
    assert (await api.get("/v1/queues/q")).status_code == 404
    assert (await api.delete("/v1/queues/q")).status_code == 404
    assert (await api.delete("/v1/queues/NO")).status_code == 422


async def test_a_queue_in_use_is_forgotten_with_everything_if_asked(api: httpx.AsyncClient) -> None:
    for queue in ("q", "other"):
        await api.post("/v1/tasks", json={"task": "t", "queue": queue})
    assert (await api.delete("/v1/queues/q?everything=true")).status_code == 204
    assert (await api.get("/v1/queues")).json()["queues"] == ["other"]
    assert (await api.get("/v1/queues/other")).json()["ready"] == 1


@pytest.fixture
async def strict(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    client = Client.at(redis_url, "test")
    transport = httpx.ASGITransport(create_app(client, known_queues_only=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        yield http
    await client.close()


async def test_only_known_queues_are_taken_if_asked(strict: httpx.AsyncClient, client: Client, redis_url: str) -> None:
    """Else every caller adds queues to Redis by naming them."""
    redis = connect(redis_url)
    await Broker(redis, Keys("test", "served")).register()
    await redis.aclose()
    await client.inspector.claim("claimed", Holder("cluster", "shop", "claimed", "uid"))
    for queue in ("served", "claimed"):
        assert (await strict.post("/v1/tasks", json={"task": "t", "queue": queue})).status_code == 202
    answer = await strict.post("/v1/tasks", json={"task": "t", "queue": "made-up"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "queue")
    batch = [{"task": "t", "queue": queue} for queue in ("served", "made-up", "claimed")]
    answer = await strict.post("/v1/tasks/batch", json=batch)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, ["[1].queue"])
    assert await client.inspector.queues() == ["claimed", "served"]
