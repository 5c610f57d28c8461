"""What another program leaves in the inbox becomes a task exactly once, or a dead letter that says why."""

import asyncio
import time
import tracemalloc
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest

from stoker.manifest.policies import Lease, Retention
from stoker.queue.inbox import BYTES_AT_ONCE, SHOWN, TAKEN_IN_AT_ONCE, Inbox, TakenIn
from stoker.redis.connect import connect
from stoker.rules.admission import Admission
from stoker.rules.inbox_entry import MALFORMED, MAX_ENTRY_BYTES, MAX_FIELDS
from stoker.rules.message import MAX_PAYLOAD_BYTES, decode, id_of_key
from stoker.rules.retry import Backoff, Jitter
from stoker.rules.states import TaskState
from tests.engine.line import DONE, QUEUE, Line, Worded, message, now
from tests.redis_servers import running_valkey

pytestmark = pytest.mark.every_server


async def leave(line: Line, **fields: Any) -> str:
    """The number of the new entry."""
    return str((await now(line.redis.xadd(line.keys.inbox, fields))).decode())


def inbox(line: Line) -> Inbox:
    return Inbox(line.redis, line.keys)


async def test_an_entry_becomes_a_task(line: Line) -> None:
    entry = await leave(line, task="add", payload='{ "a": 1, "b": [2] }')
    assert await inbox(line).take_in() == TakenIn(1, 1, [])
    status = await line.status(f"inbox-{entry}")
    assert (status.task, status.state, status.queue) == ("add", TaskState.READY, QUEUE)
    assert bytes(status.payload) == b'{"a":1,"b":[2]}'
    assert abs(status.created / 1000 - time.time()) < 60
    assert await inbox(line).take_in() == TakenIn(0, 0, [])
    assert (await line.stats()).totals.enqueued == 1


async def test_an_entry_may_say_how(line: Line) -> None:
    await leave(line, task="add", id="meek", priority="-5")
    await leave(line, task="add", id="plain")
    await leave(line, task="add", id="urgent", priority="+7")
    await leave(line, task="add", id="later", priority="9", delay="2.5")
    await inbox(line).take_in()
    assert (await line.status("later")).state is TaskState.SCHEDULED
    assert await line.order() == ["urgent", "plain", "meek"]
    await line.pass_time(2.6)
    [later] = await line.fetch()
    assert (later.id, (await line.status("later")).priority) == ("later", 9)


async def test_an_entry_may_say_all_that_a_call_may(line: Line) -> None:
    """Field by field what `Task.options(...)` takes in Python, but for the queue and the durability."""
    entry = await leave(
        line,
        task="add",
        idempotency_key="order 42",
        timeout="60",
        soft_timeout="50.5",
        version="3",
        expires="600",
        retry='{"max_retries": 7, "initial_delay": 0.5, "jitter": "None"}',
        headers='{"tenant": "acme"}',
        concurrency='{"key": "customer 7", "limit": 2}',
        unique='{"until": "started", "ttl": 60, "key": "all"}',
    )
    assert (await inbox(line).take_in()).added == 1
    task_id = id_of_key(QUEUE, "order 42")
    k = line.keys
    message = decode(await now(line.redis.hget(k.tasks, task_id)))
    assert (message.timeout, message.soft_timeout, message.version) == (60, 50.5, 3)
    assert message.retry == Backoff(7, 0.5, 2, 3600, Jitter.NONE)
    assert message.headers == {"tenant": "acme"}
    assert message.expires == int(entry.partition("-")[0]) + 600_000, "since it came, not since it was taken in"
    assert await now(line.redis.hget(k.limits, task_id)) == b"2 customer 7"
    assert (await now(line.redis.hget(k.claims, task_id))).startswith(b"s ")


async def test_an_entry_that_another_keeps_out_is_dropped(line: Line) -> None:
    one_of_a_kind = '{"until": "done"}'
    await leave(line, task="add", payload='{"a":1,"b":2}', unique=one_of_a_kind)
    await leave(line, task="add", payload='{"b":2,"a":1}', unique=one_of_a_kind)
    await leave(line, task="add", payload='{"a":2}', unique=one_of_a_kind)
    assert await inbox(line).take_in() == TakenIn(3, 2, [])
    assert await inbox(line).take_in() == TakenIn(0, 0, [])
    stats = await line.stats()
    assert (stats.ready, stats.totals.enqueued, stats.totals.deduplicated) == (2, 2, 1)
    await line.check()


async def test_an_entry_may_name_its_moments(line: Line) -> None:
    await leave(
        line, task="add", id="later", run_at="2099-01-01T00:00:00Z", expires_at="2099-01-02T01:00:00+01:00", max_retries="2"
    )
    await leave(line, task="add", id="late", run_at="1969-01-01T00:00:00Z")
    await now(line.redis.xadd(line.keys.inbox, {"task": "add", "id": "numbered", "expires": "5"}, id="99999999999999-1"))
    await inbox(line).take_in()
    later = await line.status("later")
    assert (later.state, later.at, later.expires) == (TaskState.SCHEDULED, 4070908800000, 4070995200000)
    assert (await line.status("late")).state is TaskState.READY
    numbered = await line.status("numbered")
    assert numbered.expires is not None
    assert abs(numbered.expires / 1000 - time.time()) < 60, "a made-up number is no moment"


async def test_a_worker_is_woken(line: Line) -> None:
    await leave(line, task="add")
    waiting = asyncio.create_task(line.broker.wait_for_work(5))
    await inbox(line).take_in()
    assert await waiting


async def test_the_order_of_arrival_is_kept(line: Line) -> None:
    ids = [f"t{number}" for number in range(TAKEN_IN_AT_ONCE + 10)]
    for task_id in ids:
        await leave(line, task="add", id=task_id)
    assert (await inbox(line).take_in()).read == TAKEN_IN_AT_ONCE
    await inbox(line).take_in()
    assert await line.order() == ids


async def test_what_lies_there_is_demand(line: Line) -> None:
    """With no worker nobody takes it in: the autoscaler must see it, or none would ever come."""
    await leave(line, task="add")
    await leave(line, task="add")
    await line.enqueue("a")
    stats = await line.stats()
    assert stats.ready == 3
    await line.pass_time(60)
    assert (await line.stats()).oldest_wait >= 59
    await line.redis.delete(line.keys.inbox)
    await line.redis.delete(line.keys.ready)
    await now(line.redis.hdel(line.keys.tasks, "a"))
    await now(line.redis.xadd(line.keys.inbox, {"task": "add"}, id="1-1"))
    assert (await line.stats()).oldest_wait == 0, "a made-up number is no age"


async def test_many_workers_take_it_in_once(line: Line) -> None:
    for number in range(400):
        await leave(line, task="add", **({"id": f"t{number}"} if number % 2 else {}))
    found: list[TakenIn] = []

    async def worker() -> None:
        while (taken := await inbox(line).take_in()).read:
            found.append(taken)

    await asyncio.gather(*(worker() for _ in range(8)))
    assert sum(taken.added for taken in found) == 400
    assert (await line.stats()).ready == (await line.stats()).totals.enqueued == 400


async def test_taken_in_again_after_it_ran_it_does_not_run_again(line: Line) -> None:
    """A worker that read the entry and stood still while another took it in finds it gone."""

    class Slow(Inbox):
        async def _move(self, arrivals: Any) -> dict[str, bytes]:
            await inbox(line).take_in()
            for delivery in await line.fetch():
                await line.settle(delivery, DONE)
            assert [gone async for gone in line.inspector.purge(QUEUE, TaskState.SUCCEEDED)] == [1]
            return await super()._move(arrivals)

    await leave(line, task="add")
    assert (await Slow(line.redis, line.keys).take_in()).added == 0
    assert await line.fetch() == []


async def test_the_same_task_under_its_id_is_enqueued_once(line: Line) -> None:
    await line.broker.enqueue([Admission(message("mine", a=1))])
    for payload in ('{"a":1}', '{ "a" : 1 }'):
        await leave(line, task="add", id="mine", payload=payload)
    assert await inbox(line).take_in() == TakenIn(2, 0, [])
    assert await line.order() == ["mine"]


async def test_another_task_under_a_taken_id_is_not_lost(line: Line) -> None:
    await leave(line, task="add", id="mine", payload='{"a":1}')
    entry = await leave(line, task="add", id="mine", payload='{"a":2}', priority="3")
    [buried] = (await inbox(line).take_in()).buried
    assert buried.startswith(f"inbox-{entry}-")
    status = await line.status(buried)
    assert (status.state, bytes(status.payload), status.priority) == (TaskState.DEAD, b'{"a":2}', 3)
    assert status.failure is not None
    assert status.failure.type == "Conflict"
    assert "'mine' was taken by another task" in status.failure.message
    assert await line.inspector.redrive(QUEUE, [buried]) == [buried]
    assert await line.order() == [buried, "mine"], "it may run after all"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"payload": "{}"}, "the field task is missing", id="no task"),
        pytest.param({"task": "t" * 201}, "name has 201 characters", id="endless name"),
        pytest.param({"task": b"\xff"}, "task is not UTF-8", id="name in Latin-1"),
        pytest.param({"task": "t", "payload": "{bad"}, "payload is not JSON", id="bad JSON"),
        pytest.param({"task": "t", "payload": b'{"a":"\xff"}'}, "payload", id="payload in Latin-1"),
        pytest.param({"task": "t", "payload": "[1]"}, "must be a JSON object", id="a list"),
        pytest.param({"task": "t", "payload": "[" * 5000}, "payload", id="brackets"),
        pytest.param({"task": "t", "payload": " " * (MAX_PAYLOAD_BYTES + 1)}, f"has {MAX_PAYLOAD_BYTES + 1} bytes", id="too large"),
        pytest.param({"task": "t", "id": "a b"}, "bad task id 'a b'", id="bad id"),
        pytest.param({"task": "t", "priority": "high"}, "bad priority 'high'", id="priority in words"),
        pytest.param({"task": "t", "priority": "101"}, "bad priority 101", id="priority too high"),
        pytest.param({"task": "t", "delay": "-1"}, "bad delay '-1'", id="negative delay"),
        pytest.param({"task": "t", "delay": "nan"}, "bad delay 'nan'", id="delay that is no number"),
        pytest.param({"task": "t", "delay": "999999999999"}, "bad delay", id="delay of ages"),
        pytest.param({"task": "t", "delay": "1", "run_at": "2099-01-01T00:00:00Z"}, "either delay or run_at", id="two times"),
        pytest.param({"task": "t", "run_at": "2099-01-01T00:00:00"}, "it has no zone", id="moment without a zone"),
        pytest.param({"task": "t", "run_at": "tomorrow"}, "bad run_at 'tomorrow'", id="no moment"),
        pytest.param({"task": "t", "expires": "0"}, "bad expires 0.0", id="expired at once"),
        pytest.param({"task": "t", "max_retries": "1001"}, "bad max_retries 1001", id="endless retries"),
        pytest.param({"task": "t", "retry": '{"often": 3}'}, "unknown field `often`", id="misspelt retry"),
        pytest.param({"task": "t", "headers": "tenant=acme"}, "bad headers 'tenant=acme'", id="headers that are no JSON"),
        pytest.param({"task": "t", "headers": '{"a": 1}'}, "Expected `str`, got `int`", id="header that is no text"),
        pytest.param({"task": "t", "timeout": "5", "soft_timeout": "6"}, "too late", id="soft timeout too late"),
        pytest.param({"task": "t", "unique": "[]"}, "bad unique '[]'", id="unique that is no object"),
        pytest.param({"task": "t", "concurrency": "{}"}, "required field `key`", id="concurrency without a key"),
        pytest.param({"task": "t", "version": "-1"}, "bad version -1", id="negative version"),
        pytest.param({"task": "t", "idempotency_key": "a\nb"}, "bad key 'a\\nb'", id="key of two lines"),
        pytest.param({"task": "t", "prioritiy": "1"}, "unknown fields prioritiy", id="misspelt"),
        pytest.param({b"\xff": "t"}, "a field's name is not UTF-8", id="field in Latin-1"),
    ],
)
async def test_a_malformed_entry_becomes_a_dead_letter(line: Line, fields: dict[Any, Any], reason: str) -> None:
    entry = (await now(line.redis.xadd(line.keys.inbox, fields))).decode()
    await leave(line, task="add", id="good")
    assert await inbox(line).take_in() == TakenIn(2, 1, [f"inbox-{entry}"])
    status = await line.status(f"inbox-{entry}")
    assert (status.task, status.state) == (MALFORMED, TaskState.DEAD)
    assert status.failure is not None
    assert status.failure.type == "MalformedEntry"
    assert reason in status.failure.message
    kept = msgspec.json.decode(status.payload)
    assert len(kept) == len(fields)
    for name, value in fields.items():
        if isinstance(name, str) and isinstance(value, str):
            assert kept[name] == value, "nothing is lost"
    assert await line.order() == ["good"]


async def test_an_entry_larger_than_any_task_is_buried_with_a_short_note(line: Line) -> None:
    """60 MB took the worker 1.6 GB and 20 s, and stayed in the queue."""
    await leave(line, task="add", id="before")
    entry = await leave(line, task="add", payload="x" * MAX_ENTRY_BYTES)
    await leave(line, task="add", id="after")
    assert await inbox(line).take_in() == TakenIn(2, 1, [f"inbox-{entry}"])
    assert await inbox(line).take_in() == TakenIn(1, 1, [])
    status = await line.status(f"inbox-{entry}")
    assert (status.task, status.state) == (MALFORMED, TaskState.DEAD)
    assert status.failure is not None
    assert f"has {MAX_ENTRY_BYTES + 14} bytes in 2 fields" in status.failure.message
    assert msgspec.json.decode(status.payload) == {"task": "add", "payload": "x" * SHOWN[1]}
    assert await line.order() == ["before", "after"]
    await line.check()


async def test_an_entry_of_many_fields_is_buried_with_a_short_note(line: Line) -> None:
    entry = await leave(line, **{f"field{number}": "1" for number in range(MAX_FIELDS + 1)})
    assert (await inbox(line).take_in()).buried == [f"inbox-{entry}"]
    assert len(msgspec.json.decode((await line.status(f"inbox-{entry}")).payload)) == SHOWN[0]


async def test_an_entry_of_60_mb_costs_the_worker_nothing(line: Line) -> None:
    """Its peak of memory and the longest step of its event loop, in CPU time, with the entry and without."""

    async def cost() -> tuple[int, float]:
        tracemalloc.start()
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                before = time.thread_time()
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - before)

        watching = asyncio.create_task(watch())
        assert (await inbox(line).take_in()).read == 1
        watching.cancel()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak, longest

    await leave(line, task="add", payload=msgspec.json.encode({"a": "x" * 100_000}))
    ordinary, _ = await cost()
    await leave(line, task="add", payload="x" * 60_000_000)
    peak, longest = await cost()
    assert peak < 3 * ordinary
    assert longest < 1
    assert await now(line.redis.xlen(line.keys.inbox)) == 0


async def test_entries_are_read_in_parts(line: Line) -> None:
    large = 200_000
    for number in range(20):
        await leave(line, task="add", id=f"t{number:02}", payload=msgspec.json.encode({"a": "x" * large}))
    reads = []
    while read := (await inbox(line).take_in()).read:
        reads.append(read)
    assert max(reads) <= BYTES_AT_ONCE // large + 1
    assert await line.order() == [f"t{number:02}" for number in range(20)]


@pytest.mark.parametrize("last", ["18446744073709551615-18446744073709551615", "99999999999999-1"])
@pytest.mark.parametrize("trimmed", [True, False])
async def test_an_inbox_that_was_closed_by_its_last_id_opens_again(line: Line, last: str, *, trimmed: bool) -> None:
    """After the highest id Redis refuses every XADD; after one far ahead, ids say no time."""
    k = line.keys
    await now(line.redis.xadd(k.inbox, {"task": "add"}, id=last, maxlen=0 if trimmed else None))
    findings = [finding async for finding in line.inspector.examine(QUEUE)]
    assert [finding[:3] for finding in findings] == [("inbox", "the last id of the inbox is far ahead", False)]
    names = (await line.broker.mind("w") or pytest.fail("another minds")).names
    assert ("take in" in names) is not trimmed
    await inbox(line).take_in()
    await line.broker.mind("w")
    assert [finding async for finding in line.inspector.examine(QUEUE)] == []
    entry = await leave(line, task="add")
    assert abs(int(entry.partition("-")[0]) / 1000 - time.time()) < 60


async def test_the_doctor_opens_a_closed_inbox(line: Line) -> None:
    await leave(line, task="add", id="a")
    await now(line.redis.xadd(line.keys.inbox, {"task": "add", "id": "b"}, id="18446744073709551615-18446744073709551615"))
    assert [finding.mended async for finding in line.inspector.examine(QUEUE, mend=True)] == [True]
    await leave(line, task="add", id="c")
    await inbox(line).take_in()
    assert await line.order() == ["a", "b", "c"]
    assert (await line.stats()).totals.mended == 1


async def test_statistics_do_not_look_into_a_huge_entry(line: Line) -> None:
    """The operator reads them every second; to look at three million fields takes Redis seconds."""
    await now(line.redis.xadd(line.keys.inbox, {f"f{number}": "v" for number in range(400_000)}))
    await line.stats()
    before = await busy_ms(line)
    for _ in range(5):
        assert (await line.stats()).ready == 1
    assert await busy_ms(line) - before < 100, "a look at its fields takes some 500 ms"


async def busy_ms(line: Line) -> float:
    """How long Redis has run scripts."""
    about = await now(line.redis.info("commandstats"))
    return float(about["cmdstat_evalsha"]["usec"]) / 1000


async def test_a_dead_letter_finds_an_id_in_any_case(line: Line) -> None:
    entry = await leave(line, task="")
    await line.enqueue(f"inbox-{entry}")
    [buried] = (await inbox(line).take_in()).buried
    assert buried.startswith(f"inbox-{entry}-")


async def test_a_full_server_takes_in_what_is_there() -> None:
    """Else the inbox, which may be what fills it, would keep it full."""
    with running_valkey("--maxmemory-policy", "noeviction") as server:
        redis: Any = Worded(connect(server.url))
        line = Line(redis, Lease(), Retention())
        await leave(line, task="add", id="a")
        await leave(line, task="add", payload="x" * MAX_ENTRY_BYTES)
        await redis.config_set("maxmemory", "1")
        assert await inbox(line).take_in() == TakenIn(2, 1, [ANY])
        await redis.config_set("maxmemory", "0")
        assert await line.order() == ["a"]
        await line.check()
        await redis.aclose()
