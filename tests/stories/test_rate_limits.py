"""A queue that may start only so many tasks a second, whoever works on it."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stoker import Stoker
from stoker.manifest.policies import RateLimit
from stoker.queue.keys import Keys
from tests.stories.apps.bakery import knead
from tests.stories.working import worker_process, working
from tests.waiting import until


async def test_a_worker_keeps_the_pace(app: Stoker) -> None:
    """Five at once and twenty a second from then on: ten tasks take a quarter of a second, and not a whole one."""
    started: list[float] = []

    @app.task()
    async def call_the_bank() -> None:
        started.append(time.monotonic())

    for _ in range(10):
        await call_the_bank.enqueue()
    async with working(app, rate_limit=RateLimit(20, 5)):
        await until(lambda: len(started) == 10)
    assert started[4] - started[0] < 0.1
    assert 0.23 < started[-1] - started[0] < 1.0


async def test_a_rate_beyond_a_hundred_wakes_a_second_is_reached(app: Stoker) -> None:
    """One at a time, 500 a second: whoever is told to come back in two milliseconds comes back in two."""
    started: list[float] = []

    @app.task()
    async def call_the_bank() -> None:
        started.append(time.monotonic())

    for _ in range(150):
        await call_the_bank.enqueue()
    async with working(app, rate_limit=RateLimit(500, 1)):
        await until(lambda: len(started) == 150)
    assert 0.29 < started[-1] - started[0] < 1.2


@pytest.mark.timeout(60)
async def test_workers_share_the_limit_and_sleep_in_between(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Three processes, one limit: thirty tasks at ten a second, without a storm of questions."""
    from tests.stories.apps.bakery import app

    app.redis_url = redis_url
    flags = ("--rate-limit", "10", "--rate-burst", "1")
    with ExitStack() as stack:
        for name in ("one", "two", "three"):
            stack.enter_context(worker_process(redis_url, tmp_path, *flags, name=name))
        await until(lambda: three_workers(app), within=20)
        begun, asked = time.monotonic(), await calls(redis)
        for _ in range(30):
            await knead.enqueue(0.0)
        done = Keys("stoker", "default").done
        await until(lambda: ended(redis, done, 30), within=20)
        took = time.monotonic() - begun
        asked = await calls(redis) - asked
    await app.close()
    assert 2.8 < took < 6
    enqueued, settled, fetched, upkeep = 30, 30, 4 * 30, 3 * 6 * took
    assert asked < enqueued + settled + fetched + upkeep


async def ended(redis: Redis, done: str, tasks: int) -> bool:
    return bool(await redis.zcard(done) == tasks)


async def three_workers(app: Stoker) -> bool:
    [stats] = await app.client.inspector.stats(["default"])
    return stats.workers == 3


async def calls(redis: Redis) -> int:
    """How many scripts Redis has run."""
    told = await redis.info("commandstats")
    return sum(int(told[name]["calls"]) for name in ("cmdstat_evalsha", "cmdstat_eval") if name in told)
