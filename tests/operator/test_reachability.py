"""A Redis that does not answer is asked by the autoscaler alone, a few at a time."""

import asyncio
import time

import pytest

from stoker.errors import RedisUnavailable
from stoker.rules.identity import Holder, QueueId
from stoker_operator.queues.reachability import PROBES, STANDS, Reachability
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.problem import Problem, Reason
from tests.redis_servers import Valkey

QUEUE = QueueId("shop", "a")
HOLDER = Holder("cluster", "shop", "a", "uid")


def test_a_failure_stands_for_some_seconds_unless_a_call_is_answered() -> None:
    now = 0.0
    known = Reachability(lambda: now)
    known.failed("a", RedisUnavailable("gone"))
    with pytest.raises(RedisUnavailable, match="gone"):
        known.check("a")
    known.check("b")
    known.answered("a")
    known.check("a")
    known.failed("a", RedisUnavailable("gone"))
    now = STANDS
    known.check("a")


async def test_reads_of_the_silent_take_turns_and_leave_those_alone_that_answer() -> None:
    known = Reachability()
    known.answered("good")
    release, begun = asyncio.Event(), 0

    async def read(url: str, *, waits: bool = True) -> None:
        nonlocal begun
        async with known.turn(url, waits=waits):
            begun += 1
            await release.wait()

    reads = [asyncio.create_task(read(f"bad-{number}")) for number in range(PROBES + 5)]
    await asyncio.sleep(0)
    assert begun == PROBES
    reads += [asyncio.create_task(read("good")), asyncio.create_task(read("own", waits=False))]
    await asyncio.sleep(0)
    assert begun == PROBES + 2
    release.set()
    await asyncio.gather(*reads)
    assert begun == len(reads)


async def test_what_a_read_has_found_spares_the_other_calls_their_timeout(silent_redis: str) -> None:
    pool = RedisPool(timeout=0.2)
    [reading] = await pool.probe(silent_redis, [[QUEUE]])
    assert reading.problem
    async with asyncio.timeout(0.15):  # less than one timeout
        for _ in range(5):
            found = await pool.claim(silent_redis, QUEUE, HOLDER)
            assert isinstance(found, Problem)
            assert found == reading.problem
            assert await pool.reap(silent_redis, QUEUE, "pod", 3) is None
            assert [each.problem for each in await pool.read(silent_redis, [[QUEUE]])] == [reading.problem]
    await pool.close()


async def test_all_queues_of_a_redis_that_hangs_cost_one_timeout(silent_redis: str) -> None:
    pool = RedisPool(timeout=0.5)
    began = time.monotonic()
    readings = await pool.probe(silent_redis, [[QUEUE]] * 20)
    assert all(each.problem for each in readings)
    assert time.monotonic() - began < 0.95  # two would take a second
    await pool.close()


async def test_a_redis_that_is_back_is_asked_again_once_it_was_read(own_valkey: Valkey) -> None:
    pool = RedisPool(timeout=5.0)
    own_valkey.stop()
    found = await pool.claim(own_valkey.url, QUEUE, HOLDER)
    assert isinstance(found, Problem)
    assert found.reason is Reason.REDIS_UNREACHABLE
    own_valkey.start()
    assert isinstance(await pool.claim(own_valkey.url, QUEUE, HOLDER), Problem)
    assert [each.problem for each in await pool.probe(own_valkey.url, [[QUEUE]])] == [None]
    assert await pool.claim(own_valkey.url, QUEUE, HOLDER) == HOLDER
    await pool.close()
