"""Reading tasks, queues and dead letters, and acting on them."""

import httpx
import pytest
import redis

from stoker.client.client import Client
from stoker.queue.keys import Keys, catalogue
from tests.dead_tasks import bury_next


async def test_an_unknown_task_is_not_found(api: httpx.AsyncClient) -> None:
    for address in ("/v1/tasks/nope", "/v1/tasks/nope?queue=emails"):
        answer = await api.get(address)
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:stoker:problem:task-not-found"
        assert "nope" in answer.json()["detail"]


async def test_an_id_that_several_queues_have_needs_the_queue(api: httpx.AsyncClient) -> None:
    """Else a task in a queue that comes first by name would pass for the one that is meant."""
    for queue in ("orders", "aaa"):
        await api.post("/v1/tasks", json={"task": queue, "id": "order-7", "queue": queue})
    answer = await api.get("/v1/tasks/order-7")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:stoker:problem:several-queues"
    assert "aaa, orders" in answer.json()["detail"]
    assert (await api.get("/v1/tasks/order-7?queue=orders")).json()["task"] == "orders"


async def test_acts_on_an_id_that_several_queues_have_need_the_queue_too(api: httpx.AsyncClient, redis_url: str) -> None:
    for queue in ("orders", "aaa"):
        await api.post("/v1/tasks", json={"task": queue, "id": "order-7", "queue": queue})
        await bury_next(redis_url, queue)
    for act in (api.post("/v1/dead/order-7/redrive"), api.delete("/v1/dead/order-7")):
        answer = await act
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:stoker:problem:several-queues")
    assert (await api.delete("/v1/dead/order-7?queue=aaa")).status_code == 204
    assert (await api.post("/v1/dead/order-7/redrive")).status_code == 200, "now it is the only one"


async def test_a_task_is_in_the_queue_where_it_was_found(api: httpx.AsyncClient, redis_url: str) -> None:
    """Acts on it go there, even if its envelope, which another program wrote, names another queue."""
    await api.post("/v1/tasks", json={"task": "t", "id": "mine", "queue": "here"})
    key = Keys("test", "here").tasks
    with redis.Redis.from_url(redis_url) as server:
        server.hset(key, "mine", server.hget(key, "mine").replace(b'"here"', b'"there"'))
    await bury_next(redis_url, "here")
    assert (await api.get("/v1/tasks/mine")).json()["queue"] == "here"
    assert (await api.post("/v1/dead/mine/redrive")).status_code == 200


async def test_an_id_may_hold_any_printable_sign(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks", json={"task": "t", "id": "a/b?c%d"})
    assert (await api.get(answer.headers["location"])).json()["id"] == "a/b?c%d"


async def test_tasks_are_listed_by_state_page_by_page(api: httpx.AsyncClient) -> None:
    await api.post("/v1/tasks/batch", json=[{"task": "t", "queue": "q", "id": f"t{n}"} for n in range(5)])
    await api.post("/v1/tasks", json={"task": "later", "queue": "q", "delay": 60})

    first = (await api.get("/v1/tasks", params={"queue": "q", "limit": 3})).json()
    rest = (await api.get("/v1/tasks", params={"queue": "q", "limit": 3, "cursor": first["cursor"]})).json()
    assert [task["id"] for task in first["tasks"] + rest["tasks"]] == ["t0", "t1", "t2", "t3", "t4"]
    assert len(first["tasks"]) == 3
    assert rest["cursor"] is None
    scheduled = (await api.get("/v1/tasks", params={"queue": "q", "state": "scheduled"})).json()
    assert [task["task"] for task in scheduled["tasks"]] == ["later"]


@pytest.mark.parametrize(
    ("query", "field"),
    [({}, "queue"), ({"queue": "q", "state": "gone"}, "state"), ({"queue": "q", "limit": 0}, "limit"), ({"queue": "NO"}, "queue")],
)
async def test_a_wrong_parameter_is_named(api: httpx.AsyncClient, query: dict[str, str], field: str) -> None:
    answer = await api.get("/v1/tasks", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_queue_that_is_broken_in_redis_hides_no_other(api: httpx.AsyncClient, client: Client, redis_url: str) -> None:
    """On a shared server anyone with rights on one key could end the page for all."""
    for name in ("odd", "good", "broken"):
        await api.post("/v1/tasks", json={"task": "t", "payload": {}, "queue": name})
    with redis.Redis.from_url(redis_url) as server:
        server.hset(Keys("test", "odd").stats, mapping={"enqueued": "abc", "rate": "fast", "rate_at": "soon"})
        server.set(Keys("test", "broken").ready, "no sorted set")
        server.sadd(catalogue("test"), b"\xff", "../x", "a\x1b[2J")
    found = (await api.get("/v1/stats")).json()
    assert [(each["queue"], each["ready"]) for each in found["queues"]] == [("good", 1), ("odd", 1)]
    assert [each["queue"] for each in found["unreadable"]] == ["broken"]
    assert (await api.get("/v1/queues")).json()["queues"] == ["broken", "good", "odd"]


async def test_stats_and_queues(api: httpx.AsyncClient) -> None:
    tasks = [{"task": "t", "queue": "b"}, {"task": "t", "queue": "a"}, {"task": "t", "queue": "a", "delay": 9}]
    await api.post("/v1/tasks/batch", json=tasks)

    assert (await api.get("/v1/queues")).json() == {"queues": ["a", "b"], "next": None}
    overview = (await api.get("/v1/stats")).json()
    together = overview["all"]
    assert (together["ready"], together["scheduled"], together["succeeded"], together["totals"]["enqueued"]) == (2, 1, 0, 3)
    assert [queue["queue"] for queue in overview["queues"]] == ["a", "b"]
    assert (await api.get("/v1/queues/a")).json()["scheduled"] == 1
    missing = await api.get("/v1/queues/c")
    assert missing.status_code == 404
    assert "GET /v1/queues" in missing.json()["detail"]


async def test_a_dead_task_shows_why_and_is_redriven(api: httpx.AsyncClient, client: Client, redis_url: str) -> None:
    await api.post("/v1/tasks", json={"task": "t", "queue": "q", "id": "first"})
    await bury_next(redis_url, "q", "no such address")

    [letter] = (await api.get("/v1/dead", params={"queue": "q"})).json()["tasks"]
    assert (letter["id"], letter["state"]) == ("first", "dead")
    failure = {"type": "ValueError", "message": "no such address", "traceback": "Traceback: here", "fingerprint": ""}
    assert letter["failure"] == failure
    answer = await api.post("/v1/dead/first/redrive", params={"queue": "q"})
    assert (answer.status_code, answer.json()) == (200, {"task_id": "first", "status": "ready"})
    assert (await api.get("/v1/dead", params={"queue": "q"})).json()["tasks"] == []
    [stats] = await client.inspector.stats(["q"])
    assert (stats.ready, stats.dead) == (1, 0)


async def test_dead_tasks_are_redriven_by_name_and_failure(api: httpx.AsyncClient, redis_url: str) -> None:
    await api.post("/v1/tasks/batch", json=[{"task": name, "queue": "q", "id": f"{name}{n}"} for name in "tu" for n in range(3)])
    await bury_next(redis_url, "q", count=6)

    async def redriven(**query: object) -> int:
        answer = await api.post("/v1/dead/redrive", params={"queue": "q", **query})
        assert answer.status_code == 200
        return int(answer.json()["redriven"])

    assert await redriven(failure="OSError") == 0
    assert await redriven(task="t", limit=2) == 2
    assert [task["id"] for task in (await api.get("/v1/tasks", params={"queue": "q"})).json()["tasks"]] == ["t0", "t1"]
    assert await redriven(failure="ValueError") == 4
    assert await redriven() == 0
    assert (await api.post("/v1/dead/redrive", params={"queue": "q", "limit": 1001})).status_code == 422
    assert (await api.post("/v1/dead/redrive")).status_code == 422


async def test_a_dead_task_is_deleted(api: httpx.AsyncClient, redis_url: str) -> None:
    await api.post("/v1/tasks", json={"task": "t", "queue": "q", "id": "a/b"})
    await bury_next(redis_url, "q")
    assert (await api.delete("/v1/dead/a%2Fb")).status_code == 204
    assert (await api.get("/v1/tasks/a%2Fb")).status_code == 404


async def test_a_living_task_is_not_dead(api: httpx.AsyncClient) -> None:
    await api.post("/v1/tasks", json={"task": "t", "queue": "q", "id": "alive"})
    for answer in (await api.post("/v1/dead/alive/redrive"), await api.delete("/v1/dead/alive?queue=q")):
        assert answer.status_code == 404
        assert "it is ready" in answer.json()["detail"]
    assert (await api.get("/v1/tasks/alive")).json()["state"] == "ready"
