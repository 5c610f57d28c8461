"""Records of runs: minutes, versions and the SLO, as the script adds them up."""

from itertools import pairwise
from typing import Any

import pytest
from msgspec import msgpack

from stoker.errors import RedisFull
from stoker.queue.tallies import Flush, add_tallies
from stoker.rules.tally import KEPT, MINUTES, MOST_COUNT, MOST_NAMES, MOST_VERSIONS, OTHER, Slo
from tests.engine.line import QUEUE, Line, now

RUN = {"started": 2, "succeeded": 1, "dead": 1, "w0": 2, "r20": 2, "wait_ms": 7, "run_ms": 200}


def a_flush(number: int = 1, worker: str = "w", version: str = "v1", tasks: Any = None, **slo: int) -> Flush:
    tasks = {"send": RUN} if tasks is None else tasks
    return Flush(worker, number, version, tasks, RUN if tasks else {}, **slo)


async def add(line: Line, flush: Flush) -> float | None:
    return await add_tallies(line.redis, line.keys, flush)


async def test_workers_are_added_up(line: Line) -> None:
    await add(line, a_flush(worker="a"))
    await add(line, a_flush(worker="b"))
    await add(line, a_flush(2, worker="b", tasks={"send": {"started": 1}, "add": {"cancelled": 3}}))
    for periods in (await line.inspector.minutes(QUEUE), await line.inspector.ten_minutes(QUEUE)):
        sums = {task: period.tasks[task] for period in periods for task in period.tasks}
        assert len(periods) == 1
        assert (sums["send"].started, sums["send"].dead, sums["add"].cancelled) == (5, 2, 3)
        assert (sums["send"].wait.count, sums["send"].run.total) == (4, 0.4)


@pytest.mark.every_server
async def test_a_repeated_flush_counts_once(line: Line) -> None:
    """Its reply was lost."""
    await line.inspector.set_max_wait(QUEUE, 30)
    assert await add(line, a_flush(started=2, in_time=1)) == 30
    assert await add(line, a_flush(started=2, in_time=1)) == 30
    [minute], [version] = await line.inspector.minutes(QUEUE), await line.inspector.versions(QUEUE)
    assert (minute.all.started, version.runs.started, (await line.inspector.slo(QUEUE)).started) == (2, 2, 2)
    await add(line, a_flush(2))
    assert (await line.inspector.minutes(QUEUE))[0].all.started == 4


async def test_the_clock_of_redis_names_the_minute(line: Line) -> None:
    for number in range(1, 4):
        await add(line, a_flush(number))
        await line.pass_time(60)
    minutes = await line.inspector.minutes(QUEUE)
    assert [after.at - before.at for before, after in pairwise(minutes)] == [60_000] * 2
    assert all(minute.at % 60_000 == 0 for minute in minutes)
    assert sum(period.all.started for period in await line.inspector.ten_minutes(QUEUE)) == 6


async def test_a_slot_of_the_ring_is_used_again(line: Line) -> None:
    await add(line, a_flush(1))
    await line.pass_time(MINUTES.seconds * MINUTES.slots)
    assert await line.inspector.minutes(QUEUE) == []
    await add(line, a_flush(2))
    [minute] = await line.inspector.minutes(QUEUE)
    assert minute.all.started == 2
    assert len(await line.inspector.ten_minutes(QUEUE)) == 2
    assert len([field for field in await now(line.redis.hkeys(line.keys.minutes)) if field.startswith(b"m")]) == 1


async def test_names_beyond_fifty_are_counted_together(line: Line) -> None:
    await add(line, a_flush(1, tasks={f"task-{number}": {"started": 1} for number in range(MOST_NAMES)}))
    await add(line, a_flush(2, tasks={"one-more": {"started": 3}, "and-more": {"started": 4}, "task-0": {"started": 1}}))
    [minute] = await line.inspector.minutes(QUEUE)
    assert len(minute.tasks) == MOST_NAMES + 1
    assert (minute.tasks[OTHER].started, minute.tasks["task-0"].started) == (7, 2)


async def test_a_version_is_seen_first_and_last(line: Line) -> None:
    """Also one that has run nothing yet."""
    began = await line.clock()
    await add(line, a_flush(1, version="old", tasks={}))
    await line.pass_time(100)
    await add(line, a_flush(2, version="old"))
    await add(line, a_flush(1, "other", version="new"))
    old, new = await line.inspector.versions(QUEUE)
    assert (old.version, old.runs.started, new.version, new.runs.run.count) == ("old", 2, "new", 2)
    assert began <= old.first_seen < began + 50_000 < old.last_seen
    assert new.first_seen == new.last_seen
    assert await line.inspector.minutes(QUEUE), "and an empty flush fills no minute"


@pytest.mark.every_server
async def test_of_many_versions_those_seen_last_are_kept(line: Line) -> None:
    for number in range(MOST_VERSIONS + 5):
        await add(line, a_flush(number, version=f"v{number}"))
        await line.pass_time(1)
        await add(line, a_flush(number, "long-lived", version="v0"))
        await line.pass_time(1)
    names = {each.version for each in await line.inspector.versions(QUEUE)}
    assert len(names) == MOST_VERSIONS
    assert {"v0", f"v{MOST_VERSIONS + 4}"} <= names


async def test_starts_in_time_are_counted_while_a_max_wait_is_set(line: Line) -> None:
    assert await add(line, a_flush(1)) is None
    assert await line.inspector.slo(QUEUE) == Slo()
    await line.inspector.set_max_wait(QUEUE, 1.5)
    assert await add(line, a_flush(2, started=10, in_time=9)) == 1.5
    slo = await line.inspector.slo(QUEUE)
    assert (slo.max_wait, slo.started, slo.in_time) == (1.5, 10, 9)
    await line.inspector.set_max_wait(QUEUE, None)
    assert await add(line, a_flush(3)) is None
    assert (await line.inspector.slo(QUEUE)).started == 10


async def test_an_unused_queue_forgets_its_minutes(line: Line) -> None:
    await add(line, a_flush())
    assert KEPT * 1000 - 5000 < await now(line.redis.pttl(line.keys.minutes)) <= KEPT * 1000


@pytest.mark.every_server
async def test_a_full_redis_takes_no_counts_and_no_part_of_them(line: Line) -> None:
    await line.enqueue("a")
    await line.redis.execute_command("CONFIG SET", "maxmemory", "1")
    try:
        with pytest.raises(RedisFull):
            await add(line, a_flush())
        assert await now(line.redis.exists(line.keys.minutes, line.keys.versions)) == 0
        assert await line.inspector.minutes(QUEUE) == []
    finally:
        await line.redis.execute_command("CONFIG SET", "maxmemory", "0")


ODD: list[Any] = [[], 7, -7, "x", None, {"v": 1}, {"v": 1, "at": 1, "names": 7}, {"v": float("-inf")}, {"v": "1", "at": []}]
NONSENSE = [b"", b"{", b"\xff", b"\x91" * 1000, *map(msgpack.encode, ODD)]


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_values_of_others_are_replaced(line: Line, nonsense: bytes) -> None:
    await add(line, a_flush(1))
    fields = await now(line.redis.hkeys(line.keys.minutes))
    await now(line.redis.hset(line.keys.minutes, mapping=dict.fromkeys(fields, nonsense)))
    await now(line.redis.hset(line.keys.versions, mapping={"v1": nonsense, "odd": nonsense}))
    await now(line.redis.hset(line.keys.stats, mapping={"slo_started": nonsense, "slo_in_time": nonsense}))
    await now(line.redis.hset(line.keys.meta, "max_wait", nonsense))
    assert await line.inspector.minutes(QUEUE) == []
    assert await line.inspector.versions(QUEUE) == []
    await line.inspector.slo(QUEUE)
    await add(line, a_flush(2, started=2, in_time=1))
    [minute], [version] = await line.inspector.minutes(QUEUE), await line.inspector.versions(QUEUE)
    assert (minute.all.started, version.runs.started) == (2, 2)


async def test_odd_counts_within_a_record_are_nought(line: Line) -> None:
    await add(line, a_flush(1))
    field = next(field for field in await now(line.redis.hkeys(line.keys.minutes)) if field.startswith(b"m"))
    record = msgpack.decode(await now(line.redis.hget(line.keys.minutes, field)))
    record["names"]["send"] |= {"started": -5, "dead": "many", "w0": MOST_COUNT * 4, "run_ms": [], "unknown": 7}
    await now(line.redis.hset(line.keys.minutes, field, msgpack.encode(record)))
    counts = (await line.inspector.minutes(QUEUE))[0].tasks["send"]
    assert (counts.started, counts.succeeded, counts.dead, counts.wait.count, counts.run.total) == (0, 1, 0, 0, 0)
    await add(line, a_flush(2))
    assert (await line.inspector.minutes(QUEUE))[0].tasks["send"].started == 2


async def test_a_record_of_a_newer_version_is_left_alone(line: Line) -> None:
    await add(line, a_flush(1))
    fields = [field for field in await now(line.redis.hkeys(line.keys.minutes)) if field[:1] in b"mt"]
    newer = {}
    for field in fields:
        record = msgpack.decode(await now(line.redis.hget(line.keys.minutes, field)))
        newer[field] = msgpack.encode({"v": 2, "at": record["at"], "names": {}, "more": 1})
    await now(line.redis.hset(line.keys.minutes, mapping=newer))
    await now(line.redis.hset(line.keys.versions, "v1", msgpack.encode({"v": 2})))
    await add(line, a_flush(2))
    kept = await now(line.redis.hgetall(line.keys.minutes))
    assert {field: kept[field] for field in fields} == newer
    assert await now(line.redis.hget(line.keys.versions, "v1")) == msgpack.encode({"v": 2})
    assert await line.inspector.minutes(QUEUE) == []


async def test_a_key_of_another_type_reads_as_nothing(line: Line) -> None:
    await now(line.redis.set(line.keys.minutes, "x"))
    await now(line.redis.lpush(line.keys.versions, "x"))
    assert await line.inspector.minutes(QUEUE) == []
    assert await line.inspector.versions(QUEUE) == []
    await now(line.redis.delete(line.keys.minutes, line.keys.versions))


async def test_huge_values_are_not_read(line: Line) -> None:
    await add(line, a_flush(1))
    await now(line.redis.hset(line.keys.minutes, "m0", b"x" * (9 << 20)))
    await now(line.redis.hset(line.keys.minutes, "m1", b"x" * (9 << 20)))
    assert len(await line.inspector.minutes(QUEUE)) <= 1
