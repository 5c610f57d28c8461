"""`stoker doctor` on a queue that is never still: what is only on its way is no damage, and nothing is mended in vain."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stoker import Stoker, chain, group
from tests.stories.apps.harbour import app, lift, load, moor, sail, survey, weigh
from tests.stories.working import worker_process

BUSY_FOR = 6.0
QUEUES = ("default", "ships")
VISITS = 6


@pytest.fixture
async def harbour(redis_url: str) -> AsyncIterator[Stoker]:
    app.redis_url = redis_url
    yield app
    await app.close()


async def test_a_busy_queue_is_sound_however_often_one_looks(harbour: Stoker, redis_url: str, tmp_path: Path) -> None:
    """Chains that hop between queues in groups within groups, schedules, keys, claims, retries, and a worker that is killed."""
    with (
        worker_process(redis_url, tmp_path, "--queue", "default", name="a", app="harbour:app") as killed,
        worker_process(redis_url, tmp_path, "--queue", "default", name="b", app="harbour:app"),
        worker_process(redis_url, tmp_path, "--queue", "ships", name="c", app="harbour:app"),
    ):
        until = time.monotonic() + BUSY_FOR
        sending = asyncio.create_task(keep_busy(until))
        visits = 0
        while time.monotonic() < until or not sending.done():
            for queue in QUEUES:
                mend = visits % 2 == 1
                found = [finding async for finding in harbour.client.inspector.examine(queue, mend=mend)]
                assert not found, f"visit {visits}, mending: {mend}"
            visits += 1
            if visits == VISITS // 2:
                killed.signal(signal.SIGKILL)
        groups = await sending
        assert visits >= VISITS
        assert {await handle.result(timeout=30) for handle in groups} == {4 * 10 + 0 + 1 + 2 + 3}


async def keep_busy(until: float) -> list:  # type: ignore[type-arg]
    number, groups = 0, []
    while time.monotonic() < until:
        hops = [sail.piped() if at % 2 == 0 else load.piped() for at in range(9)]
        members = [chain(load.prepare(crate), *hops) for crate in range(4)]  # type: ignore[call-overload]
        groups.append(await chain(group(*members), weigh.piped()).enqueue())
        for _ in range(10):
            number += 1
            await lift.enqueue(f"crane {number % 3}", number)
            await survey.enqueue(number % 5)
        await moor.enqueue(number)
        await asyncio.sleep(0.1)
    return groups
