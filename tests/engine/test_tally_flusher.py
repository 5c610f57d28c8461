"""What a worker process adds to the records, and when: what has changed, once, whatever becomes of the replies."""

import logging
from typing import Any

import pytest

from stoker.errors import RedisUnavailable
from stoker.queue.tallies import Flush, add_tallies
from stoker.rules.identity import QueueId
from stoker.telemetry.metrics import TaskCollector
from stoker.worker.loop import tally_flusher
from stoker.worker.loop.tally_flusher import TallyFlusher
from tests.engine.line import NAMESPACE, QUEUE, Line


@pytest.fixture
def collector() -> TaskCollector:
    return TaskCollector(QueueId(NAMESPACE, QUEUE))


@pytest.fixture
def flusher(line: Line, collector: TaskCollector) -> TallyFlusher:
    return TallyFlusher(line.redis, line.keys, "w", collector, lambda: "v1")


def ran(collector: TaskCollector, runs: int = 1) -> None:
    for _ in range(runs):
        counts = collector.of("send")
        counts.started += 1
        counts.wait.observe(0.5)
        counts.duration.observe(0.02)
        counts.succeeded += 1


async def started(line: Line) -> int:
    return sum(period.all.started for period in await line.inspector.minutes(QUEUE))


async def test_each_run_is_added_once(line: Line, collector: TaskCollector, flusher: TallyFlusher) -> None:
    for runs in (2, 3):
        ran(collector, runs)
        assert await flusher.flush()
    assert await started(line) == 5
    runs = (await line.inspector.minutes(QUEUE))[-1].all
    assert (runs.succeeded, runs.wait.total) == (5, 2.5)
    assert runs.run.quantile(0.5) == pytest.approx(0.02, rel=0.13)


async def test_an_idle_worker_sends_nothing(line: Line, collector: TaskCollector, flusher: TallyFlusher) -> None:
    """But once when it starts, so that its version is seen."""
    assert await flusher.flush()
    assert [each.version for each in await line.inspector.versions(QUEUE)] == ["v1"]
    commands = (await line.redis.info("stats"))["total_commands_processed"]
    assert not await flusher.flush()
    assert not await flusher.flush()
    assert (await line.redis.info("stats"))["total_commands_processed"] == commands + 1
    ran(collector)
    assert await flusher.flush()


async def test_starts_in_time_are_those_since_the_limit_is_known(
    line: Line, collector: TaskCollector, flusher: TallyFlusher
) -> None:
    await line.inspector.set_max_wait(QUEUE, 2)
    collector.slo.started = 7
    await flusher.flush()
    assert (collector.slo.max_wait, collector.slo.started) == (2, 0)
    ran(collector)
    collector.slo.started, collector.slo.in_time = 5, 4
    await flusher.flush()
    slo = await line.inspector.slo(QUEUE)
    assert (slo.started, slo.in_time) == (5, 4)


@pytest.mark.parametrize("taken", [True, False], ids=["it was taken", "it was not"])
async def test_a_flush_without_a_reply_is_repeated_as_it_was(
    line: Line, collector: TaskCollector, flusher: TallyFlusher, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    async def without_reply(redis: Any, keys: Any, flush: Flush) -> None:
        if taken:
            await add_tallies(redis, keys, flush)
        raise RedisUnavailable("away")

    ran(collector, 2)
    with monkeypatch.context() as patched:
        patched.setattr(tally_flusher, "add_tallies", without_reply)
        with pytest.raises(RedisUnavailable):
            await flusher.flush()
        ran(collector, 3)
    assert await flusher.flush()
    assert await started(line) == 2
    assert await flusher.flush()
    assert await started(line) == 5


async def test_a_full_redis_drops_counts_and_the_log_says_so_once(
    line: Line, collector: TaskCollector, flusher: TallyFlusher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await line.enqueue("a")
    await line.redis.execute_command("CONFIG SET", "maxmemory", "1")
    try:
        for _ in range(2):
            ran(collector)
            assert await flusher.flush()
    finally:
        await line.redis.execute_command("CONFIG SET", "maxmemory", "0")
    assert [record.message for record in caplog.records] == ["counts of runs are dropped until Redis takes them"]
    ran(collector)
    await flusher.flush()
    assert await started(line) == 1
