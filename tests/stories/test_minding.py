"""One worker of a queue does its chores. It may be killed, and so may almost all others, at any time."""

import asyncio
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stoker import Stoker
from stoker.queue.keys import Keys, catalogue
from tests.stories.apps.bakery import bake, bake_once
from tests.stories.observing import notes
from tests.stories.working import WorkerProcess, worker_process
from tests.waiting import until

LEASE, WORKERS = 1.0, 4
LATE = 30.0
"""Seconds within which what the minder left must go on, on a slow machine."""


@pytest.fixture
async def bakery(redis_url: str) -> Stoker:
    """The application that the processes run, seen from outside."""
    from tests.stories.apps.bakery import app

    app.redis_url = redis_url
    yield app
    await app.close()


async def minder(app: Stoker, redis: Redis) -> str:
    return await redis.hget(Keys(app.namespace, "default").meta, "minder") or ""  # type: ignore[misc]


def pid_of(worker: str) -> str:
    return worker.rsplit("-", 2)[1]


async def test_when_the_minder_is_killed_another_takes_over(bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """What falls due and what comes into the inbox afterwards finds the next."""
    with worker_process(redis_url, tmp_path, name="first") as first, worker_process(redis_url, tmp_path, name="second") as second:
        await until(lambda: minder(bakery, redis))
        await until(lambda: beating(bakery, redis, 2))
        killed = {str(each.process.pid): each for each in (first, second)}[pid_of(await minder(bakery, redis))]
        killed.signal(signal.SIGKILL)
        await killed.exit_code()
        due = await bake.options(delay=0.5).enqueue(0.0)
        entry = {"task": "bake", "payload": '{"seconds": 0}', "id": "from-the-inbox"}
        await redis.xadd(Keys(bakery.namespace, "default").inbox, entry)
        assert await due.result(timeout=LATE) == 1
        await until(lambda: noted(redis, "end from-the-inbox 1"), LATE)


async def noted(redis: Redis, line: str) -> bool:
    return line in await notes(redis)


async def test_one_worker_announces_the_queue_for_all(bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """A Redis that was emptied learns of it within seconds; each worker by itself would send two commands every five seconds."""
    with ExitStack() as stack:
        for number in range(3):
            stack.enter_context(worker_process(redis_url, tmp_path, name=f"worker{number}"))
        await until(lambda: beating(bakery, redis, 3))
        before = await announcements(redis)
        await redis.delete(catalogue(bakery.namespace))
        await until(lambda: redis.exists(catalogue(bakery.namespace)))
        assert await announcements(redis) == before + 1


async def announcements(redis: Redis) -> int:
    return int((await redis.info("commandstats"))["cmdstat_sadd"]["calls"])


async def test_one_worker_of_many_is_left(bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """All but one die in one instant, the minder among them: what they held runs again within the lease and two seconds."""
    with ExitStack() as stack:
        doomed: list[WorkerProcess] = [
            stack.enter_context(worker_process(redis_url, tmp_path, "--concurrency", "1", name=f"doomed{number}"))
            for number in range(WORKERS)
        ]
        handles = [await bake_once.enqueue() for _ in range(WORKERS)]
        await until(lambda: started(redis, WORKERS))
        await until(lambda: minder(bakery, redis))
        stack.enter_context(worker_process(redis_url, tmp_path, name="left"))
        await until(lambda: beating(bakery, redis, WORKERS + 1))
        for worker in doomed:
            worker.signal(signal.SIGKILL)
        killed = time.monotonic()
        assert await asyncio.gather(*(handle.result(timeout=LATE) for handle in handles)) == [2] * WORKERS
        assert time.monotonic() - killed <= LEASE + 2.0


async def started(redis: Redis, count: int) -> bool:
    return len(await notes(redis)) == count


async def beating(app: Stoker, redis: Redis, count: int) -> bool:
    return await redis.zcard(Keys(app.namespace, "default").beats) == count
