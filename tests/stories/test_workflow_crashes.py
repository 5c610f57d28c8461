"""Workflows outlive their workers: killed between any two links, over two queues, with members that are run twice."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stoker import Stoker, chain, group
from tests.redis_servers import Kind
from tests.redis_topologies import ClusterOf, running_cluster
from tests.stories.apps.bakery import app, basket, count, mill, oven, sell, shape
from tests.stories.working import worker_process

KILLED = 6


@pytest.fixture
async def bakery(redis_url: str) -> AsyncIterator[Stoker]:
    app.redis_url = redis_url
    yield app
    await app.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterOf]:
    with running_cluster(Kind.VALKEY_9) as nodes:
        yield nodes


@pytest.mark.usefixtures("bakery")
async def test_workers_are_killed_again_and_again_and_nothing_is_lost_or_doubled(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    """Chains over two queues, and groups with a join: every result is right, and no attempt is made twice."""
    dice = random.Random(7)
    links = [shape.piped() if at % 2 else oven.piped() for at in range(4)]
    chains = [await chain(shape.prepare(0), *links).enqueue() for _ in range(10)]  # type: ignore[call-overload]
    members = [chain(shape.prepare(number), oven.piped()) for number in range(6)]
    groups = [await chain(group(*members), basket.piped()).enqueue() for _ in range(3)]
    for round_ in range(KILLED):
        with (
            worker_process(redis_url, tmp_path, "--queue", "default", name=f"d{round_}") as first,
            worker_process(redis_url, tmp_path, "--queue", "ovens", name=f"o{round_}") as second,
        ):
            await asyncio.sleep(dice.uniform(0.5, 1.0))
            for worker in (first, second):
                worker.signal(signal.SIGKILL)
                await worker.exit_code()
    with (
        worker_process(redis_url, tmp_path, "--queue", "default"),
        worker_process(redis_url, tmp_path, "--queue", "ovens", name="o"),
    ):
        assert [await handle.result(timeout=30) for handle in chains] == [5] * 10
        assert [await handle.result(timeout=30) for handle in groups] == [sum(range(6)) + 12] * 3
    runs = Counter(tuple(line.split()[:2]) for line in await redis.lrange("bakery:notes", 0, -1))  # type: ignore[misc]
    attempts = Counter(line for line in await redis.lrange("bakery:notes", 0, -1))  # type: ignore[misc]
    assert len(runs) == 10 * 5 + 3 * (12 + 1), "every task once, and no other"
    assert max(attempts.values()) == 1, "no attempt ran twice"


async def test_a_chain_over_the_slots_of_a_cluster(cluster: ClusterOf, tmp_path: Path) -> None:
    app.redis_url = cluster.url
    queues = ("north", "south", "west")
    owners = {cluster.owner(f"{{stoker:{queue}}}:meta").port for queue in queues}
    assert len(owners) > 1, "the queues lie on several nodes"
    try:
        with ExitStack() as workers:
            for queue in queues:
                workers.enter_context(worker_process(cluster.url, tmp_path, "--queue", queue, name=queue))
            warm = await chain(mill.prepare(1), sell.piped(), group(mill.piped()), count.piped()).enqueue()
            assert await warm.result(timeout=20) == 21
            members = (chain(mill.piped(), sell.piped()) for _ in range(5))
            started = time.monotonic()
            handle = await chain(mill.prepare(1), sell.piped(), group(*members), count.piped()).enqueue()
            assert await handle.result(timeout=20) == 5 * 210
            assert time.monotonic() - started < 3, "no link waits for a poll"
    finally:
        await app.close()
