"""The catalogue of queues: what is unused leaves it, what is used comes back."""

import time
from typing import Any

import pytest

from stoker.autoscale.scaling_record import ScalingRecord
from stoker.client.client import Client
from stoker.queue import catalogue as module
from stoker.queue.catalogue import IDLE, SAMPLE, Catalogue
from stoker.queue.keys import Keys, catalogue, partition_counts
from stoker.queue.reads.inspector import Inspector
from stoker.queue.schedules import TASKQUEUE
from stoker.queue.scripts import load, run
from stoker.queue.tallies import Flush, add_tallies
from stoker.rules.announcement import describe
from stoker.rules.audit import KEPT_FOR
from stoker.rules.call import TaskCall
from stoker.rules.identity import Holder
from stoker.rules.schedule import Definition, cron
from stoker.rules.settle import Bury
from stoker.rules.states import TaskState
from tests.engine.line import DONE, FAILURE, NAMESPACE, QUEUE, Line, now


def names_of(line: Line) -> Catalogue:
    return Catalogue(line.redis, NAMESPACE)


async def used_once(line: Line) -> None:
    """A task that came, ran and was purged."""
    await line.broker.register()
    await line.enqueue("a")
    for delivery in await line.fetch():
        await line.settle(delivery, DONE)
    async for _ in line.inspector.purge(QUEUE, TaskState.SUCCEEDED):
        pass
    await line.broker.forget_worker("w")


async def keys_of(line: Line) -> set[str]:
    return {key.decode() for key in await now(line.redis.keys("*"))}


async def test_an_unused_name_leaves_with_all_that_is_left(line: Line) -> None:
    await used_once(line)
    await now(line.redis.xadd(line.keys.inbox, {"task": "add"}, maxlen=0))
    assert await names_of(line).forget_idle() == 0, "it was used today"
    await line.pass_time(IDLE + 1)
    assert await names_of(line).forget_idle() == 1
    assert await names_of(line).names() == []
    assert await keys_of(line) == set()


@pytest.mark.parametrize("use", ["task", "dead task", "inbox", "worker", "schedule", "claim", "paused"])
async def test_what_is_used_stays(line: Line, use: str) -> None:
    await used_once(line)
    await line.pass_time(IDLE + 1)
    match use:
        case "task":
            await line.enqueue("later", delay=5)
        case "dead task":
            await line.enqueue("d")
            [delivery] = await line.fetch()
            await line.settle(delivery, Bury(FAILURE))
            await line.broker.forget_worker("w")
            await line.pass_time(IDLE + 1)
        case "inbox":
            await now(line.redis.xadd(line.keys.inbox, {"task": "add"}))
        case "worker":
            await line.beat(worker="w")
        case "schedule":
            await line.inspector.schedules(QUEUE).register(TASKQUEUE, 1, [Definition("hourly", cron("@hourly"), "add")])
        case "claim":
            await line.inspector.claim(QUEUE, Holder("cluster", "shop", "emails", "uid"))
        case "paused":
            await line.inspector.pause(QUEUE)
    before = await keys_of(line)
    assert await names_of(line).forget_idle() == 0
    assert await names_of(line).names() == [QUEUE]
    assert await keys_of(line) == before
    refused = await names_of(line).forget(QUEUE)
    assert refused == {"paused": "", "dead task": "tasks", "inbox": "tasks"}.get(use, f"{use}s".replace("claims", "claim"))


async def test_everything_is_forgotten_if_asked(line: Line) -> None:
    await line.broker.register()
    await line.enqueue("a", "b")
    await line.fetch(1)
    await line.inspector.claim(QUEUE, Holder("cluster", "shop", "emails", "uid"))
    assert await names_of(line).forget(QUEUE, everything=True) == ""
    assert await keys_of(line) == set()


def test_every_key_of_a_queue_is_forgotten() -> None:
    """But the audit, which says who emptied it. Operations are of the namespace."""
    every = {name for name, each in vars(Keys).items() if isinstance(each, property) and name != "_base"}
    assert set(load("forget").keys) == every - {"audit", "operations"}


async def test_records_go_with_their_queue_and_the_audit_stays(line: Line) -> None:
    await used_once(line)
    await add_tallies(line.redis, line.keys, Flush("w", 1, "v1", {"add": {"started": 1}}, {"started": 1}))
    await line.announce("v1", {"add": 0}, worker="w")
    await run(line.redis, line.broker.describe_call("v1", describe({"add": b"{}"})))
    await line.broker.forget_worker("w")
    await line.inspector.record_decision(QUEUE, ScalingRecord(0, 1, 1, "ScaleUp"))
    await Inspector(line.redis, NAMESPACE, "alice@laptop").pause(QUEUE)
    await line.inspector.resume(QUEUE)
    assert await names_of(line).forget(QUEUE) == ""
    assert await keys_of(line) == {line.keys.audit}
    assert [act.act for act in await line.inspector.audit(QUEUE)] == ["pause"]
    assert 0 < await now(line.redis.pttl(line.keys.audit)) <= KEPT_FOR * 1000


async def test_a_queue_with_partitions_goes_as_a_whole(line: Line) -> None:
    await line.broker.partitions.register(QUEUE, 3)
    other = Keys(NAMESPACE, f"{QUEUE}:2")
    await now(line.redis.zadd(other.ready, {"a": 1}))
    assert await names_of(line).forget_idle() == 0
    await line.redis.delete(other.ready)
    assert await names_of(line).forget_idle() == 1
    assert await now(line.redis.exists(catalogue(NAMESPACE), partition_counts(NAMESPACE))) == 0


async def test_a_flooded_catalogue_is_soon_small_again(line: Line) -> None:
    await line.enqueue("a")
    await line.broker.register()
    await now(line.redis.sadd(catalogue(NAMESPACE), *(f"q{number}" for number in range(10 * SAMPLE))))
    await names_of(line).forget_idle()
    assert len(await names_of(line).names()) < 2 * SAMPLE
    assert QUEUE in await names_of(line).names()


async def test_the_next_enqueue_brings_a_name_back(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a producer that has run since before."""
    client = Client(line.redis, NAMESPACE)
    await client.enqueue([TaskCall("add", QUEUE)])
    await names_of(line).forget(QUEUE, everything=True)
    later = time.monotonic() + IDLE
    monkeypatch.setattr(time, "monotonic", lambda: later)
    monkeypatch.setattr(client.inspector.partitions, "_monotonic", lambda: later)
    await client.enqueue([TaskCall("add", QUEUE)])
    assert await names_of(line).names() == [QUEUE]


async def test_a_task_that_comes_meanwhile_keeps_the_name(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    await line.broker.register()
    real: Any = module.ask

    async def ask(redis: Any, *command: Any) -> Any:
        if command[0] == "SREM":
            await line.enqueue("a")
        return await real(redis, *command)

    monkeypatch.setattr(module, "ask", ask)
    assert await names_of(line).forget(QUEUE) == ""
    assert await names_of(line).names() == [QUEUE]
