"""POST /v1/tasks: what is taken, and what is refused with a reason."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis

from stoker.client.client import Client
from stoker.gateway.requests import TaskRequest
from stoker.queue.keys import Keys
from stoker.rules.inbox_entry import FIELDS
from stoker.rules.message import MAX_PAYLOAD_BYTES, decode
from stoker.rules.retry import Backoff, Jitter
from stoker.rules.states import TaskState
from stoker.task.options import Options

JSON = {"content-type": "application/json"}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


async def test_a_task_is_enqueued_and_can_be_looked_up(api: httpx.AsyncClient) -> None:
    answer = await api.post(
        "/v1/tasks", json={"task": "send_email", "payload": {"to": "ada@example.org"}, "queue": "emails", "priority": 7}
    )

    assert answer.status_code == 202
    task_id = answer.json()["task_id"]
    assert answer.json() == {"task_id": task_id, "status": "ready"}
    found = (await api.get(answer.headers["location"])).json()
    assert (found["id"], found["task"], found["queue"]) == (task_id, "send_email", "emails")
    assert (found["state"], found["priority"]) == ("ready", 7)
    assert found["payload"] == {"to": "ada@example.org"}


async def test_options_reach_the_envelope(api: httpx.AsyncClient, redis_url: str) -> None:
    await api.post("/v1/tasks", json={"task": "t", "id": "mine", "queue": "q", "max_retries": 0, "timeout": 1.5})
    with redis.Redis.from_url(redis_url) as server:
        message = decode(server.hget(Keys("test", "q").tasks, "mine"))
    assert (message.max_retries, message.timeout) == (0, 1.5)


async def test_all_that_a_call_may_say_reaches_the_queue(api: httpx.AsyncClient, redis_url: str) -> None:
    """Field by field what `Task.options(...)` takes in Python."""
    body = {
        "task": "t",
        "id": "mine",
        "queue": "q",
        "timeout": 60,
        "soft_timeout": 50.5,
        "version": 3,
        "expires": 600,
        "retry": {"max_retries": 7, "initial_delay": 0.5, "jitter": "None"},
        "headers": {"tenant": "acme", "trace": "ü"},
        "concurrency": {"key": "customer {7}", "limit": 2},
        "durability": "memory",
    }
    before = time.time()
    assert (await api.post("/v1/tasks", json=body)).status_code == 202
    k = Keys("test", "q")
    with redis.Redis.from_url(redis_url) as server:
        message = decode(server.hget(k.tasks, "mine"))
        assert server.hget(k.limits, "mine") == b"2 customer {7}"
    assert (message.timeout, message.soft_timeout, message.version) == (60, 50.5, 3)
    assert message.retry == Backoff(7, 0.5, 2, 3600, Jitter.NONE)
    assert message.headers == {"tenant": "acme", "trace": "ü"}
    assert message.expires is not None
    assert before + 599 < message.expires / 1000 < time.time() + 601
    found = (await api.get("/v1/tasks/mine?queue=q")).json()
    assert (found["headers"], found["expires"]) == (message.headers, message.expires)


async def test_it_may_expire_at_a_moment(api: httpx.AsyncClient) -> None:
    items = [{"task": "t", "id": str(at), "expires_at": f"{year}-01-01T00:00:00Z"} for at, year in enumerate((2099, 1969))]
    assert (await api.post("/v1/tasks/batch", json=items)).json()["accepted"] == 2
    assert (await api.get("/v1/tasks/0")).json()["expires"] == 4070908800000
    assert (await api.get("/v1/tasks/1")).json()["expires"] == 1, "long past"


async def test_what_redis_does_not_confirm_is_reported_and_enqueued(api: httpx.AsyncClient) -> None:
    """This Redis has no replica: the caller hears that the guarantee is not reached, and which task it may send again."""
    answer = await api.post("/v1/tasks", json={"task": "t", "durability": "replicated"})
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:stoker:problem:not-durable"
    [line] = (await api.get("/v1/tasks?queue=default")).json()["tasks"]
    assert f"Enqueued: {line['id']}; sending them again with these ids" in answer.json()["detail"]


def test_every_option_of_python_is_one_of_rest_and_of_the_inbox() -> None:
    """Or somebody has to explain why not."""
    named = {"retry": {"retry", "max_retries"}, "expires": {"expires", "expires_at"}}
    # What arrives is the worker's to check; links are calls, which Python prepares.
    for option in Options.__annotations__.keys() - {"check_arguments", "on_success", "on_failure"}:
        assert named.get(option, {option}) <= set(TaskRequest.__struct_fields__)
        if option not in {"queue", "durability"}:  # it is in the queue's own inbox, and as durable as its XADD
            assert named.get(option, {option}) <= set(FIELDS)


@pytest.mark.parametrize("when", [{"delay": 60}, {"run_at": "2099-01-01T00:00:00Z"}], ids=["delay", "run_at"])
async def test_a_task_with_a_delay_is_scheduled(api: httpx.AsyncClient, when: dict[str, Any]) -> None:
    answer = await api.post("/v1/tasks", json={"task": "t", **when})
    assert answer.json()["status"] == "scheduled"
    found = (await api.get(f"/v1/tasks/{answer.json()['task_id']}")).json()
    due = 4070908800000 if "run_at" in when else (time.time() + 60) * 1000
    assert abs(found["at"] - due) < 10_000


async def test_the_same_task_again_is_not_enqueued_twice(api: httpx.AsyncClient, client: Client) -> None:
    first = await api.post("/v1/tasks", content=b'{"task":"t","payload":{"a":1},"id":"order-42"}', headers=JSON)
    again = await api.post("/v1/tasks", content=b'{ "id": "order-42", "payload": { "a": 1 }, "task": "t" }', headers=JSON)

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == {"task_id": "order-42", "status": "ready", "duplicate": True}
    [stats] = await client.inspector.stats(["default"])
    assert stats.ready == 1


async def test_another_task_under_the_same_id_is_a_conflict(api: httpx.AsyncClient) -> None:
    await api.post("/v1/tasks", json={"task": "t", "payload": {"a": 1}, "id": "order-42"})
    answer = await api.post("/v1/tasks", json={"task": "t", "payload": {"a": 2}, "id": "order-42"})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:stoker:problem:id-taken"
    assert "choose another id" in answer.json()["detail"]


async def test_the_same_key_is_the_same_task(api: httpx.AsyncClient, client: Client) -> None:
    body = {"task": "t", "payload": {"a": 1}, "idempotency_key": "order 42 of Ada"}
    first, again = await api.post("/v1/tasks", json=body), await api.post("/v1/tasks", json=body)
    other = await api.post("/v1/tasks", json={**body, "payload": {"a": 2}})

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert again.json() == {**first.json(), "duplicate": True}
    assert "idempotency key 'order 42 of Ada' belongs to another task" in other.json()["detail"]
    batch = (await api.post("/v1/tasks/batch", json=[body, {**body, "task": "other"}])).json()
    assert (batch["duplicates"], batch["conflicts"]) == (1, 1)
    assert {task["task_id"] for task in batch["tasks"]} == {first.json()["task_id"]}
    [stats] = await client.inspector.stats(["default"])
    assert stats.ready == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({}, "task", id="no task"),
        pytest.param({"task": ""}, "task", id="empty task name"),
        pytest.param({"task": 5}, "task", id="task is a number"),
        pytest.param({"task": "t", "retries": 3}, "retries", id="unknown field"),
        pytest.param({"task": "t", "payload": [1]}, "payload", id="payload is a list"),
        pytest.param({"task": "t", "payload": "x"}, "payload", id="payload is text"),
        pytest.param({"task": "t", "payload": nested(33)}, "payload", id="payload nests 33 deep"),
        pytest.param({"task": "t", "priority": 101}, "priority", id="priority too high"),
        pytest.param({"task": "t", "priority": "high"}, "priority", id="priority is text"),
        pytest.param({"task": "t", "queue": "Bad Queue"}, "queue", id="queue name"),
        pytest.param({"task": "t", "id": "a b"}, "id", id="id with a blank"),
        pytest.param({"task": "t", "id": ""}, "id", id="empty id"),
        pytest.param({"task": "t", "idempotency_key": ""}, "idempotency_key", id="empty key"),
        pytest.param({"task": "t", "idempotency_key": "a\nb"}, "idempotency_key", id="key of two lines"),
        pytest.param({"task": "t", "idempotency_key": "a", "id": "b"}, "idempotency_key", id="id and key"),
        pytest.param({"task": "t", "delay": -1}, "delay", id="delay in the past"),
        pytest.param({"task": "t", "run_at": "tomorrow"}, "run_at", id="run_at is no time"),
        pytest.param({"task": "t", "run_at": "2099-01-01T00:00:00"}, "run_at", id="run_at without a zone"),
        pytest.param({"task": "t", "run_at": "2099-01-01T00:00:00Z", "delay": 1}, "run_at", id="delay and run_at"),
        pytest.param({"task": "t", "max_retries": -1}, "max_retries", id="negative retries"),
        pytest.param({"task": "t", "timeout": 0}, "timeout", id="no time to run"),
        pytest.param({"task": "t", "timeout": 5, "soft_timeout": 5}, "soft_timeout", id="soft timeout too late"),
        pytest.param({"task": "t", "expires": 0}, "expires", id="no time to wait"),
        pytest.param({"task": "t", "expires": 5, "delay": 6}, "expires", id="expired before it is due"),
        pytest.param({"task": "t", "expires": 5, "expires_at": "2099-01-01T00:00:00Z"}, "expires_at", id="two expiries"),
        pytest.param({"task": "t", "expires_at": "2099-01-01T00:00:00"}, "expires_at", id="expires_at without a zone"),
        pytest.param({"task": "t", "headers": {"": "x"}}, "headers", id="header without a name"),
        pytest.param({"task": "t", "headers": {"x": 1}}, "headers[...]", id="header that is no text"),
        pytest.param({"task": "t", "headers": {str(n): "" for n in range(33)}}, "headers", id="too many headers"),
        pytest.param({"task": "t", "retry": {"max_retries": 1}, "max_retries": 1}, "max_retries", id="retries twice"),
        pytest.param({"task": "t", "retry": {"multiplier": 0.5}}, "retry.multiplier", id="waits that shrink"),
        pytest.param({"task": "t", "retry": {"jitter": "some"}}, "retry.jitter", id="unknown jitter"),
        pytest.param({"task": "t", "concurrency": {"limit": 2}}, "concurrency", id="concurrency without a key"),
        pytest.param({"task": "t", "concurrency": {"key": "a\nb"}}, "concurrency.key", id="concurrency key of two lines"),
        pytest.param({"task": "t", "durability": "eternal"}, "durability", id="unknown durability"),
        pytest.param({"task": "t", "version": -1}, "version", id="negative version"),
    ],
)
async def test_a_wrong_field_is_named(api: httpx.AsyncClient, client: Client, body: dict[str, Any], field: str) -> None:
    answer = await api.post("/v1/tasks", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:stoker:problem:invalid"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert field in problem["detail"]
    assert await client.inspector.queues() == []


async def test_a_payload_may_nest_32_deep(api: httpx.AsyncClient) -> None:
    assert (await api.post("/v1/tasks", json={"task": "t", "payload": nested(32)})).status_code == 202


async def test_brackets_in_text_are_not_depth(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks", json={"task": "t", "payload": {"text": '[{"\\' * 50, "key]}": "]"}})
    assert answer.status_code == 202


async def test_a_payload_of_brackets_alone_is_refused(api: httpx.AsyncClient) -> None:
    body = b'{"task":"t","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = await api.post("/v1/tasks", content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "payload"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"task": "t", "payload": {"a": }}',
        b'{"task": "t"} more',
        b'{"task": "t", "payload": {"a": "\xff"}}',
        b'{"task": "t", "payload": {"a": NaN}}',
    ],
)
async def test_what_is_not_json_is_a_bad_request(api: httpx.AsyncClient, body: bytes) -> None:
    answer = await api.post("/v1/tasks", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:stoker:problem:not-json"


async def test_only_declared_json_is_read(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks", content=b'{"task": "t"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["detail"]


def body_with_payload(size: int) -> bytes:
    return b'{"task":"t","payload":{"a":"' + b"x" * (size - len('{"a":""}')) + b'"}}'


async def test_a_payload_of_256_kib_is_the_most(api: httpx.AsyncClient) -> None:
    fits = await api.post("/v1/tasks", content=body_with_payload(MAX_PAYLOAD_BYTES), headers=JSON)
    too_much = await api.post("/v1/tasks", content=body_with_payload(MAX_PAYLOAD_BYTES + 1), headers=JSON)
    assert (fits.status_code, too_much.status_code) == (202, 413)
    assert "pass a reference" in too_much.json()["detail"]


async def test_a_body_is_counted_while_it_comes(api: httpx.AsyncClient) -> None:
    """A chunked body does not say its length; the rest of an endless one is never read."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1000:
            sent += 1
            yield b"x" * 65536

    answer = await api.post("/v1/tasks", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert sent < 10


async def test_a_batch_is_answered_task_by_task(api: httpx.AsyncClient, client: Client) -> None:
    for task_id in ("same", "other"):
        await api.post("/v1/tasks", json={"task": "t", "payload": {"a": 1}, "queue": "one", "id": task_id})
    batch = [
        {"task": "t", "queue": "one"},
        {"task": "t", "queue": "two", "delay": 60},
        {"task": "t", "payload": {"a": 1}, "queue": "one", "id": "same"},
        {"task": "t", "payload": {"a": 2}, "queue": "one", "id": "other"},
        {"task": "last", "queue": "one", "id": "last"},
    ]
    answer = await api.post("/v1/tasks/batch", json=batch)

    assert answer.status_code == 202
    reply = answer.json()
    assert (reply["accepted"], reply["duplicates"], reply["conflicts"]) == (3, 1, 1)
    assert [task.get("status") for task in reply["tasks"]] == ["ready", "scheduled", None, None, "ready"]
    assert reply["tasks"][2] == {"task_id": "same", "duplicate": True}
    assert reply["tasks"][3]["task_id"] == "other"
    assert "choose another id" in reply["tasks"][3]["error"]
    assert (await client.status("one", "last")).state is TaskState.READY
    assert (await client.status("two", reply["tasks"][1]["task_id"])).state is TaskState.SCHEDULED


async def test_a_batch_keeps_its_order(api: httpx.AsyncClient) -> None:
    batch = [{"task": "t", "queue": f"q{n % 2}", "id": f"task-{n}"} for n in range(1000)]
    answer = await api.post("/v1/tasks/batch", json=batch)
    assert [task["task_id"] for task in answer.json()["tasks"]] == [task["id"] for task in batch]
    ready = (await api.get("/v1/tasks", params={"queue": "q1", "limit": 3})).json()["tasks"]
    assert [task["id"] for task in ready] == ["task-1", "task-3", "task-5"]


async def test_one_wrong_task_refuses_the_whole_batch(api: httpx.AsyncClient, client: Client) -> None:
    answer = await api.post("/v1/tasks/batch", json=[{"task": "t"}, {"task": "t", "priority": 1000}, {"payload": {}}, 5])
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["[1].priority", "[2].task", "[3]"]
    assert await client.inspector.queues() == []


async def test_a_payload_that_is_too_large_is_found_in_a_batch(api: httpx.AsyncClient, client: Client) -> None:
    body = b'[{"task":"t"},' + body_with_payload(MAX_PAYLOAD_BYTES + 1) + b"]"
    answer = await api.post("/v1/tasks/batch", content=body, headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith("[1]: ")
    assert await client.inspector.queues() == []


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_1_to_1000_tasks(api: httpx.AsyncClient, count: int) -> None:
    answer = await api.post("/v1/tasks/batch", json=[{"task": "t"}] * count)
    assert answer.status_code == 422
    assert f"not {count}" in answer.json()["detail"]


async def test_a_batch_has_at_most_8_mib(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/tasks/batch", content=b" " * (8 * 1024 * 1024 + 1), headers=JSON)
    assert answer.status_code == 413


async def test_a_unique_task_is_answered_with_the_one_in_the_way(api: httpx.AsyncClient, client: Client) -> None:
    body = {"task": "t", "payload": {"a": 1, "b": 2}, "unique": {}}
    first = await api.post("/v1/tasks", json=body)
    again = await api.post("/v1/tasks", json={**body, "payload": {"b": 2, "a": 1}})
    other = await api.post("/v1/tasks", json={**body, "payload": {"a": 2}})
    keyed = [await api.post("/v1/tasks", json={**body, "payload": {"n": n}, "unique": {"key": "all", "ttl": 5}}) for n in range(2)]

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 202)
    assert again.json() == {**first.json(), "duplicate": True}
    assert [answer.status_code for answer in keyed] == [202, 200]
    [stats] = await client.inspector.stats(["default"])
    assert (stats.ready, stats.totals.deduplicated) == (3, 2)


@pytest.mark.parametrize(
    ("unique", "field"),
    [
        ({"until": "never"}, "unique.until"),
        ({"ttl": 0}, "unique.ttl"),
        ({"key": ""}, "unique.key"),
        ({"key": "a\nb"}, "unique.key"),
        ({"for": 5}, "unique"),
    ],
)
async def test_a_bad_wish_to_be_unique_is_refused(api: httpx.AsyncClient, unique: dict[str, Any], field: str) -> None:
    answer = await api.post("/v1/tasks", json={"task": "t", "unique": unique})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
