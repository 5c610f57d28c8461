"""A hundred workers on one queue: almost all of them die in one instant; and a task that falls due among idle ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stoker import Stoker
from stoker.queue.keys import Keys
from tests.stories.apps.bakery import bake, bake_once
from tests.stories.observing import notes
from tests.waiting import until

APPS = Path(__file__).with_name("apps")
LEASE, WORKERS, PROCESSES = 6.0, 99, 3
START = 180.0
"""Seconds for the crowd to start on a slow machine. Nothing is measured of them."""
pytestmark = pytest.mark.nightly


@pytest.fixture
async def bakery(redis_url: str) -> Stoker:
    """The application that the crowd runs, seen from outside."""
    from tests.stories.apps.bakery import app

    app.redis_url = redis_url
    yield app
    await app.close()


@contextmanager
def crowd(url: str, first: int, workers: int, processes: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Workers with a slot each, in a few processes, which do not outlive the test."""
    each = workers // processes
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")])}
    commands = [
        [sys.executable, str(APPS / "crowd.py"), str(first + at * each), str(each), str(LEASE), url] for at in range(processes)
    ]
    running = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


async def beating(redis: Redis, app: Stoker) -> int:
    return int(await redis.zcard(Keys(app.namespace, "default").beats))


async def runs(redis: Redis, attempt: int) -> int:
    return sum(line.startswith("start ") and line.endswith(f" {attempt}") for line in await notes(redis))


async def test_tasks_of_99_workers_run_again_a_lease_later(bakery: Stoker, redis: Redis, redis_url: str) -> None:
    """The one that is left has a slot: it runs them one after the other, the last within seconds."""
    with crowd(redis_url, 0, WORKERS, PROCESSES) as dying:
        await until(lambda: has_beating(redis, bakery, WORKERS), START)
        handles = [await bake_once.enqueue() for _ in range(WORKERS)]
        await until(lambda: has_run(redis, 1, WORKERS), START)
        with crowd(redis_url, WORKERS, 1, 1):
            await until(lambda: has_beating(redis, bakery, WORKERS + 1), START)
            for process in dying:
                process.send_signal(signal.SIGKILL)
            died = time.monotonic()
            await until(lambda: has_run(redis, 2, 1), START)
            first = time.monotonic() - died
            assert first < LEASE + 2, f"the first ran again after {first:.1f} s"
            for handle in handles:
                await handle.result(timeout=START)


async def test_a_due_task_starts_within_a_second_of_its_time(bakery: Stoker, redis: Redis, redis_url: str) -> None:
    with crowd(redis_url, 0, WORKERS, PROCESSES):
        await until(lambda: has_beating(redis, bakery, WORKERS), START)
        late = []
        for _ in range(10):
            due = time.monotonic() + 2.0
            await (await bake.options(delay=2.0).enqueue(0.0)).result(timeout=START)
            late.append(time.monotonic() - due)
        assert sorted(late)[5] < 1.0, late


async def has_beating(redis: Redis, app: Stoker, workers: int) -> bool:
    return await beating(redis, app) >= workers


async def has_run(redis: Redis, attempt: int, times: int) -> bool:
    return await runs(redis, attempt) >= times
