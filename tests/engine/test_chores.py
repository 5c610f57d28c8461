"""The chores of a partition: bounded calls, but as many as there is to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from stoker import Stoker
from stoker.errors import RedisUnavailable
from stoker.manifest.policies import Keep
from stoker.queue.inbox import Inbox
from stoker.queue.settlements import Settlement
from stoker.queue.workflows.outbox import Outbox
from stoker.rules.identity import QueueId
from stoker.rules.settle import Bury
from stoker.rules.units import Duration
from stoker.rules.workflow import Origin, OutboxEntry, TaskStep, dump_entry
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop import chores
from stoker.worker.loop.partition import Partition
from stoker.worker.system.aio import cancel_all
from tests.engine.line import FAILURE, LEASE, Line, message, now, open_line
from tests.waiting import until

MANY = 3000
SOON = 8.0
"""Seconds; one bounded call a second would take fifteen and more."""


@asynccontextmanager
async def running(chore: chores.Chore) -> AsyncIterator[None]:
    chore.due.set()
    task = asyncio.create_task(chores.repeat(chore))
    try:
        yield
    finally:
        await cancel_all(task)  # one cancellation may be lost on its way through redis-py


async def many(line: Line, delay: float = 0.0) -> None:
    await line.enqueue(*(f"t{number}" for number in range(MANY)), delay=delay)


async def counted(line: Line, **counts: int) -> bool:
    stats = await line.stats()
    numbers = {"ready": stats.ready, "dead": stats.dead, "enqueued": stats.totals.enqueued}
    return all(numbers[name] == count for name, count in counts.items())


async def test_all_that_is_past_its_retention_goes(redis_url: str) -> None:
    async with open_line(redis_url, dead=Keep(Duration(1000), 10)) as line:
        await many(line)
        while taken := await line.fetch(200):
            await line.broker.turn([Settlement(each.id, each.fence, Bury(FAILURE)) for each in taken], 0, "w")
        async with running(chores.sweep(line.broker)):
            await until(lambda: counted(line, dead=10), SOON)


async def test_all_that_is_due_becomes_ready(line: Line) -> None:
    await many(line, delay=5)
    await line.pass_time(6)
    async with running(chores.promote(line.broker)):
        await until(lambda: counted(line, ready=MANY), SOON)


async def test_all_that_a_dead_worker_held_comes_back(line: Line) -> None:
    await many(line)
    while await line.fetch(200):
        pass
    await line.pass_time(LEASE + 1)
    async with running(chores.reap(line.broker, WorkerMetrics(CollectorRegistry(), QueueId("stoker", "emails"), 1))):
        await until(lambda: counted(line, ready=MANY), SOON)


async def test_nothing_is_taken_back_right_after_an_outage(line: Line) -> None:
    """Living workers renew their leases then; what dead ones held comes back a moment later."""
    recovering = True
    await many(line)
    while await line.fetch(200):
        pass
    await line.pass_time(LEASE + 1)
    reap = chores.reap(line.broker, WorkerMetrics(CollectorRegistry(), QueueId("stoker", "emails"), 1), lambda: recovering)
    assert await reap.once() == chores.Pass()
    recovering = False
    assert (await reap.once()).moved == MANY


async def test_all_that_lies_in_the_inbox_is_taken_in(line: Line) -> None:
    await asyncio.gather(*(line.redis.xadd(line.keys.inbox, {"task": "add", "id": f"t{number}"}) for number in range(MANY)))
    async with (
        running(chores.take_in(Inbox(line.redis, line.keys))),
        running(chores.take_in(Inbox(line.redis, line.keys))),
    ):
        await until(lambda: counted(line, enqueued=MANY), SOON)
    assert await line.order(3) == ["t0", "t1", "t2"]


async def test_what_cannot_be_relayed_is_logged_once_and_delays_no_other(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    k, called = line.keys, asyncio.Event()
    await now(line.redis.xadd(k.outbox, {"body": "{"}))
    async with running(chores.relay(Outbox(line.redis, k), called)):
        for number in range(3):
            entry = OutboxEntry(f"key {number}", Origin(0), (TaskStep(message(f"child{number}")),))
            await now(line.redis.xadd(k.outbox, {"body": dump_entry(entry)}))
            called.set()
            await until(lambda: counted(line, enqueued=number + 1))  # noqa: B023
    said = [record for record in caplog.records if "cannot be relayed" in record.message]
    assert len(said) == 1
    assert "stoker doctor" in said[0].message
    assert await line.examine(mend=True)


async def test_a_minder_that_saw_an_outage_leaves_others_time_to_renew(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose slots are all busy, which sees it by its looks for chores alone: leases of living workers have ended too."""
    monkeypatch.setattr("stoker.worker.loop.outage.RECOVERY", 0.3)
    app, settings = Stoker("test"), WorkerSettings(queue="emails", redis_url="redis://unused")
    partition = Partition(
        line.keys, "w", app, settings, line.redis, WorkerMetrics(CollectorRegistry(), QueueId("stoker", "emails"), 1)
    )
    with monkeypatch.context() as outage:
        outage.setattr(partition.broker, "mind", _unavailable)
        with pytest.raises(RedisUnavailable):
            await partition.mind.once()
    await line.enqueue("a")
    await line.fetch(worker="living")
    await line.pass_time(LEASE + 1)
    assert (await partition.reap.once()).moved == 0
    await partition.mind.once()
    assert (await partition.reap.once()).moved == 0, "Redis is back since a moment ago"
    await until(lambda: _reaps(partition))
    await partition.worker.close()


async def _unavailable(_: str) -> None:
    raise RedisUnavailable("gone")


async def _reaps(partition: Partition) -> bool:
    return (await partition.reap.once()).moved == 1
