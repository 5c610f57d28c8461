"""A TaskQueue that moves to another Redis loses sight of no task in the former one."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from stoker.manifest.task_queue import TaskQueue
from stoker.rules.identity import Holder
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.reconcile.applied import Applied, last_applied
from stoker_operator.reconcile.connections import Connections
from stoker_operator.reconcile.moves import Moves
from stoker_operator.report.conditions import conditions
from stoker_operator.state.findings import Findings, LeftBehind, Reading, RedisQueue, Snapshot
from stoker_operator.state.problem import Problem, Reason, secret_missing
from stoker_operator.state.redis_problem import former_redis_forgotten
from tests.operator.observed import REF, task_queue
from tests.operator.operating import FAST, Cluster, Queue, Queues, unique, until
from tests.redis_servers import Valkey, free_port

OWN = Holder("here", "shop", "emails", "uid-1")


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param(None, None, id="nothing left"),
        pytest.param(LeftBehind(2), ("True", "TasksLeftBehind", "2 tasks are in the former Redis"), id="tasks"),
        pytest.param(LeftBehind(0, former_redis_forgotten()), ("Unknown", "FormerRedisUnreadable", "cannot be read"), id="unread"),
    ],
)
def test_the_condition(left: LeftBehind | None, expected: tuple[str, str, str] | None) -> None:
    known = Snapshot(Findings("uid-1", 7, task_queue(), "redis://redis", left_behind=left), Reading(), None)
    found = [each for each in conditions(known) if each.type == "TasksLeftBehind"]
    assert bool(found) is bool(expected)
    for each in found:
        assert expected is not None
        assert (each.status, each.reason) == expected[:2]
        assert expected[2] in each.message


def manifest(name: str, secret: str) -> TaskQueue:
    return task_queue(queue={"name": name}, redis={"urlSecretRef": {"name": secret}})


class Secrets:
    """The URLs in Secrets, by name."""

    def __init__(self, **urls: str) -> None:
        self.urls = urls

    async def url(self, queue: TaskQueue) -> str | Problem:
        assert queue.spec.redis.url_secret_ref is not None
        name = queue.spec.redis.url_secret_ref.name
        return self.urls.get(name) or secret_missing("shop", name)


def applied_by(moves: Moves, queue: TaskQueue) -> Applied | None:
    """What another operator reads in the Deployment."""
    redis = {"urlSecretRef": {"name": queue.spec.redis.url_secret_ref.name}} if queue.spec.redis.url_secret_ref else {}
    spec = {"worker": {}, "queue": {"name": queue.queue}, "redis": redis}
    text = moves.annotation(REF, {"metadata": {"generation": 2}, "spec": spec})
    assert "redis://" not in text
    return last_applied({"metadata": {"annotations": {"stoker.dev/applied": text}}}, REF)


@pytest.fixture
async def pool() -> AsyncIterator[RedisPool]:
    pool = RedisPool(timeout=5.0)
    yield pool
    await pool.close()


async def test_what_is_left_is_known_until_it_is_done_also_after_a_restart(
    pool: RedisPool, shared_valkey: Valkey, own_valkey: Valkey
) -> None:
    name = unique("emails")
    secrets = Secrets(old=shared_valkey.url, new=own_valkey.url)
    old, new = manifest(name, "old"), manifest(name, "new")
    before = Queue(shared_valkey.url, old.key_namespace, name)
    await before.enqueue(3)
    moves = Moves(pool, cast(Connections, secrets))
    await moves.follow(REF, RedisQueue(shared_valkey.url, old), OWN, None)
    assert moves.left_behind(REF) is None
    away = applied_by(moves, old)
    await moves.follow(REF, RedisQueue(own_valkey.url, new), OWN, away)
    assert moves.left_behind(REF) == LeftBehind(3)

    for known in (applied_by(moves, new), away):  # restarted after the move; away during the move
        newcomer = Moves(pool, cast(Connections, secrets))
        await newcomer.follow(REF, RedisQueue(own_valkey.url, new), OWN, known)
        assert newcomer.left_behind(REF) == LeftBehind(3)
        newcomer.abandon(REF)
        await newcomer.follow(REF, RedisQueue(own_valkey.url, new), OWN, known)
        assert newcomer.left_behind(REF) is None

    changed = Moves(pool, cast(Connections, Secrets(old=own_valkey.url)))  # the old Secret has the new URL
    await changed.follow(REF, RedisQueue(own_valkey.url, new), OWN, applied_by(moves, new))
    assert changed.left_behind(REF) == LeftBehind(0, former_redis_forgotten())

    assert await before.drain() == 3
    await moves.follow(REF, RedisQueue(own_valkey.url, new), OWN, None)
    assert moves.left_behind(REF) is None
    assert "former" not in moves.annotation(REF, {"metadata": {"generation": 2}, "spec": {"worker": {}}})
    await before.close()


async def test_a_former_redis_that_cannot_be_read_may_have_tasks_and_moving_back_ends_it(
    pool: RedisPool, own_valkey: Valkey
) -> None:
    name = unique("emails")
    gone, here = f"redis://127.0.0.1:{free_port()}", RedisQueue(own_valkey.url, manifest(name, "new"))
    moves = Moves(pool, cast(Connections, Secrets()))
    await moves.follow(REF, RedisQueue(gone, manifest(name, "old")), OWN, None)
    await moves.follow(REF, here, OWN, None)
    left = moves.left_behind(REF)
    assert left is not None
    assert left.unread is not None
    assert left.unread.reason == Reason.REDIS_UNREACHABLE
    await moves.follow(REF, RedisQueue(gone, manifest(name, "old")), OWN, None)
    assert moves.left_behind(REF) is None  # at home again, and the other is empty


async def test_tasks_left_in_the_former_redis_are_a_condition_until_they_are_gone(
    cluster: Cluster, queues: Queues, own_valkey: Valkey, shared_valkey: Valkey
) -> None:
    """The Secret is changed in place. The new queue is empty, and takes the last worker away only when the old one is too."""
    name = unique("emails")
    await cluster.secret("redis", url=shared_valkey.url)
    redis = {"urlSecretRef": {"name": "redis"}}
    await cluster.apply(name, redis=redis, scaling=FAST)
    await cluster.workers(name)
    await queues(name).enqueue(25)
    await cluster.replicas(name, 3)
    await cluster.secret("redis", url=own_valkey.url)
    await cluster.patch("taskqueues", name, {"metadata": {"annotations": {"look": "again"}}})  # the resync is slow here
    left = await cluster.condition(name, "TasksLeftBehind", "True", "TasksLeftBehind")
    assert left["message"].startswith("25 tasks are in the former Redis")
    await cluster.replicas(name, 1)
    await queues(name).drain()

    async def gone() -> bool:
        found: list[dict[str, Any]] = (await cluster.get("taskqueues", name))["status"]["conditions"]
        return all(each["type"] != "TasksLeftBehind" for each in found)

    await until(gone, 30)
    await cluster.replicas(name, 0)
    await cluster.told(name, "ScaledUp", "TasksLeftBehind", "ScaledDown", "ScaledDown")


async def test_tasks_left_behind_can_be_abandoned(
    cluster: Cluster, queues: Queues, own_valkey: Valkey, shared_valkey: Valkey
) -> None:
    name = unique("emails")
    await cluster.secret("old", url=shared_valkey.url)
    await cluster.secret("new", url=own_valkey.url)
    await cluster.apply(name, redis={"urlSecretRef": {"name": "old"}}, scaling=FAST)
    await cluster.workers(name)
    await queues(name).enqueue(5)
    await cluster.apply(name, redis={"urlSecretRef": {"name": "new"}}, scaling=FAST)
    await cluster.condition(name, "TasksLeftBehind", "True", "TasksLeftBehind")
    await cluster.patch("taskqueues", name, {"metadata": {"annotations": {"stoker.dev/abandon-tasks": "true"}}})
    await cluster.replicas(name, 0)
