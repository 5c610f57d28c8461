"""What a user of Stoker is shown: the names of `stoker`, and what an editor offers behind the dot."""

import logging
from typing import Any

import pytest

import stoker
from stoker import Context, Stoker, chain, group

app = Stoker("shop")


@app.task()
async def add(a: int, b: int) -> int:
    return a + b


CALLS = {"enqueue", "enqueue_sync"}
LOOKS = {"cancel", "cancel_sync", "result", "result_sync", "status", "status_sync"}
SHOWN: list[tuple[Any, set[str]]] = [
    (
        app,
        {"client", "close", "dependency_overrides", "enqueue_many", "enqueue_many_sync", "middleware", "name", "namespace"}
        | {"annotate", "discover", "load", "named", "on_dead", "redis_url", "route", "schedule", "state", "task", "tasks"},
    ),
    (add, {*CALLS, "handle", "name", "options", "piped", "prepare"}),
    (add.options(), {*CALLS, "piped", "prepare"}),
    (add.handle("x"), {*LOOKS, "duplicate", "explain", "id", "queue"}),
    (chain(add.prepare(1, 2)), {*CALLS, "links"}),
    (group(add.prepare(1, 2)), {*CALLS, "members", "on_failure"}),
    (
        Context("x", "add", "default", 1, "0", logging.LoggerAdapter(logging.getLogger())),
        {"attempt", "cancelled", "deadline", "enqueue", "fence", "headers", "id", "log", "progress", "queue", "retry", "schedule"}
        | {"last_attempt", "max_retries", "scheduled_for", "task", "time_left"},
    ),
]


@pytest.mark.parametrize(("thing", "names"), SHOWN, ids=lambda each: type(each).__name__)
def test_an_editor_offers_what_a_user_may_use(thing: Any, names: set[str]):
    assert {name for name in dir(thing) if not name.startswith("_")} == names


def test_what_is_imported_from_stoker():
    assert {name for name in vars(stoker) if name in stoker.__all__} == set(stoker.__all__)
    assert (" ".join(stoker.__all__)) == (
        "INJECTED Cancellation Chain Concurrency Conflict Context Dead DeadTask Depends EnqueueNext Explanation Group Handle "
        "Invalid InvalidArguments Jitter NotDurable NotFound Prepared Receipt RedisRefused RedisUnavailable ResultPending Retry "
        "RunNext Snooze SoftTimeout State Stoker StokerError Task TaskCall TaskFailed TaskState TaskStatus TryAgain Unique "
        "WorkflowHandle chain cron every group"
    )
