"""`stoker enqueue`."""

import json
import time
from typing import Any

import pytest
import redis

from stoker.queue.keys import Keys
from stoker.rules.message import decode
from stoker.rules.retry import Backoff, Jitter


def test_a_task_with_arguments(stoker: Any) -> None:
    ended = stoker(
        "enqueue", "send_email", "to=ada@example.org", "attempts=3", "tags=[1, 2]", 'zip="01234"', "-q", "emails", "--json"
    )
    assert ended.code == 0, ended.err
    receipt = json.loads(ended.out)
    assert receipt == {"task_id": receipt["task_id"], "queue": "emails", "status": "ready", "duplicate": False}
    task = json.loads(stoker("task", receipt["task_id"], "--json").out)
    assert task["task"] == "send_email"
    assert task["payload"] == {"to": "ada@example.org", "attempts": 3, "tags": [1, 2], "zip": "01234"}


def test_a_payload_as_json_from_the_flag_or_stdin(stoker: Any) -> None:
    stoker("enqueue", "t", "--payload", '{ "a": 1 }', "--id", "flag", "--priority", "-5")
    stoker("enqueue", "t", "--payload", "-", "--id", "stdin", stdin='{"a": 2}')
    flag = json.loads(stoker("task", "flag", "--json").out)
    assert (flag["payload"], flag["priority"]) == ({"a": 1}, -5)
    assert json.loads(stoker("task", "stdin", "--json").out)["payload"] == {"a": 2}


def test_all_that_a_call_may_say(stoker: Any, redis_url: str) -> None:
    said = ["--header", "tenant=acme", "--header", "trace=a=b", "--expires", "10m", "--timeout", "1m", "--soft-timeout", "50s"]
    said += ["--max-retries", "7", "--initial-delay", "500ms", "--jitter", "None", "--task-version", "3"]
    said += ["--concurrency-key", "customer 7", "--concurrency-limit", "2", "--unique", "done", "--unique-key", "all"]
    before = time.time()
    assert stoker("enqueue", "t", "a=1", "--id", "first", *said).code == 0
    k = Keys("test", "default")
    with redis.Redis.from_url(redis_url) as server:
        message = decode(server.hget(k.tasks, "first"))
        assert server.hget(k.limits, "first") == b"2 customer 7"
    assert message.headers == {"tenant": "acme", "trace": "a=b"}
    assert (message.timeout, message.soft_timeout, message.version) == (60, 50, 3)
    assert message.retry == Backoff(7, 0.5, 2, 3600, Jitter.NONE)
    assert message.expires is not None
    assert before + 599 < message.expires / 1000 < time.time() + 601
    again = json.loads(stoker("enqueue", "t", "a=2", *said, "--json").out)
    assert (again["task_id"], again["duplicate"]) == ("first", True)
    words = " ".join(stoker("task", "first").out.split())
    assert "headers tenant=acme trace=a=b" in words
    assert "expires in" in words
    shown = json.loads(stoker("task", "first", "--json").out)
    assert (shown["headers"], shown["expires"]) == (message.headers, message.expires)


def test_what_redis_does_not_confirm_is_an_error_that_names_the_task(stoker: Any) -> None:
    ended = stoker("enqueue", "t", "--id", "mine", "--durability", "replicated")
    assert ended.code == 1
    assert "enqueued, but not replicated" in ended.line
    assert ended.line.endswith("its id is mine")
    assert json.loads(stoker("task", "mine", "--json").out)["state"] == "ready"


@pytest.mark.parametrize("when", [("--delay", "1m30s"), ("--delay", "90"), ("--run-at", "2099-01-01T00:00:00+02:00")])
def test_a_task_for_later(stoker: Any, when: tuple[str, str]) -> None:
    task_id = json.loads(stoker("enqueue", "t", *when, "--json").out)["task_id"]
    task = json.loads(stoker("task", task_id, "--json").out)
    assert task["state"] == "scheduled"
    due = 4070901600000 if "--run-at" in when else (time.time() + 90) * 1000
    assert abs(task["at"] - due) < 15_000


def test_an_id_is_enqueued_once(stoker: Any) -> None:
    first = stoker("enqueue", "t", "a=1", "--id", "order-42")
    again = stoker("enqueue", "t", "a=1", "--id", "order-42")
    other = stoker("enqueue", "t", "a=2", "--id", "order-42")
    assert (first.code, first.out) == (0, "order-42 ready in default\n")
    assert again.code == 0
    assert "already" in again.out
    assert other.code == 1
    assert other.err.startswith("error: task id 'order-42' is taken")


def test_a_key_is_enqueued_once(stoker: Any) -> None:
    first = json.loads(stoker("enqueue", "t", "a=1", "--idempotency-key", "the order of Ada", "--json").out)
    again = json.loads(stoker("enqueue", "t", "a=1", "--idempotency-key", "the order of Ada", "--json").out)
    other = stoker("enqueue", "t", "a=2", "--idempotency-key", "the order of Ada")
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["task_id"] == again["task_id"]
    assert other.code == 1
    assert "idempotency key 'the order of Ada' belongs to another task" in other.line


def test_many_at_once(stoker: Any) -> None:
    ended = stoker("enqueue", "t", "a=1", "--count", "2500", "--json")
    assert json.loads(ended.out) == {"enqueued": 2500, "queue": "default"}
    assert ended.err == ""
    [stats] = json.loads(stoker("stats", "--json").out)
    assert stats["ready"] == 2500


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--payload", "{bad"], "--payload is not JSON"),
        (["--payload", "[1]"], "must be a JSON object"),
        (["--payload", "{}", "a=1"], "either --payload or KEY=VALUE"),
        (["novalue"], "'novalue' is not KEY=VALUE"),
        (["--priority", "101"], "--priority"),
        (["--queue", "Bad_Name"], "bad queue name"),
        (["--id", "a b"], "bad task id"),
        (["--idempotency-key", ""], "bad key"),
        (["--id", "x", "--idempotency-key", "y"], "either --id or --idempotency-key"),
        (["--idempotency-key", "x", "--count", "2"], "either that or --count"),
        (["--delay", "soon"], "not a duration"),
        (["--delay", "-5"], "not a duration"),
        (["--run-at", "tomorrow"], "write it like 2030-01-31T09:00:00Z"),
        (["--run-at", "2030-01-31T09:00:00"], "time with its zone"),
        (["--run-at", "2030-01-31T09:00:00Z", "--delay", "1s"], "either --delay or --run-at"),
        (["--id", "x", "--count", "2"], "either that or --count"),
        (["--count", "0"], "--count"),
        (["--max-retries", "-1"], "--max-retries"),
        (["--header", "tenant"], "'tenant' is not NAME=TEXT"),
        (["--header", "=acme"], "is not NAME=TEXT"),
        (["--header", "a=" + "x" * 9000], "at most 32 of 8192 bytes"),
        (["--expires", "0"], "use a number of seconds above 0, or leave it out"),
        (["--expires", "5s", "--delay", "5s"], "it would expire before it is due"),
        (["--expires", "5s", "--expires-at", "2030-01-31T09:00:00Z"], "either --expires or --expires-at"),
        (["--soft-timeout", "5s", "--timeout", "5s"], "would come too late"),
        (["--unique-key", "all"], "need --unique started or --unique done"),
        (["--unique", "always"], "--unique"),
        (["--initial-delay", "2s", "--multiplier", "0"], "--multiplier"),
        (["--jitter", "some"], "--jitter"),
        (["--concurrency-key", ""], "bad key"),
        (["--durability", "eternal"], "--durability"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_sends_nothing(stoker: Any, arguments: list[str], says: str) -> None:
    ended = stoker("enqueue", "t", *arguments)
    assert ended.code == 2
    assert says in ended.line
    assert "Traceback" not in ended.err
    assert json.loads(stoker("stats", "--json").out) == []
