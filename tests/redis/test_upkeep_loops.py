"""The loops that every worker runs: bounded calls, but as many as there is to do."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from line import FAILURE, LEASE, Line, open_line
from prometheus_client import CollectorRegistry

from patience import until
from stoker.queue.broker import Settlement
from stoker.queue.inbox import Inbox
from stoker.rules.durations import Duration
from stoker.rules.settle import Bury
from stoker.taskqueue import Keep
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker import upkeep
from stoker.worker.ending import end

MANY = 3000
SOON = 8.0
"""Seconds; one bounded call a second would take fifteen and more."""


@asynccontextmanager
async def running(loop: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(loop)
    try:
        yield
    finally:
        await end(task)  # one cancellation may be lost on its way through redis-py


async def many(line: Line, delay: float = 0.0) -> None:
    await line.enqueue(*(f"t{number}" for number in range(MANY)), delay=delay)


async def counted(line: Line, **counts: int) -> bool:
    stats = await line.stats()
    return all(getattr(stats, name) == count for name, count in counts.items())


async def test_all_that_is_past_its_retention_goes(redis_url: str) -> None:
    async with open_line(redis_url, dead=Keep(Duration(1000), 10)) as line:
        await many(line)
        while taken := await line.fetch(200):
            await line.broker.turn([Settlement(each.id, each.fence, Bury(FAILURE)) for each in taken], 0, "w")
        async with running(upkeep.sweep(line.broker)):
            await until(lambda: counted(line, dead=10), SOON)


async def test_all_that_is_due_becomes_ready(line: Line) -> None:
    await many(line, delay=5)
    await line.pass_time(6)
    async with running(upkeep.promote(line.broker)):
        await until(lambda: counted(line, ready=MANY), SOON)


async def test_all_that_a_dead_worker_held_comes_back(line: Line) -> None:
    await many(line)
    while await line.fetch(200):
        pass
    await line.pass_time(LEASE + 1)
    async with running(upkeep.reap(line.broker, WorkerMetrics(CollectorRegistry(), "emails", 1))):
        await until(lambda: counted(line, ready=MANY), SOON)


async def test_all_that_lies_in_the_inbox_is_taken_in(line: Line) -> None:
    await asyncio.gather(*(line.redis.xadd(line.keys.inbox, {"task": "add", "id": f"t{number}"}) for number in range(MANY)))
    async with running(upkeep.take_in(Inbox(line.redis, line.keys))), running(upkeep.take_in(Inbox(line.redis, line.keys))):
        await until(lambda: counted(line, enqueued=MANY), SOON)
    assert await line.order(3) == ["t0", "t1", "t2"]
