"""The pool of Redis connections: one per Redis, bounded, and no Redis harms the reads of another."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from stoker.autoscale.decide import decide
from stoker.autoscale.demand import demand_of, policy_of
from stoker.errors import RedisUnavailable
from stoker.manifest.task_queue import TaskQueueSpec
from stoker.manifest.worker_pods import Worker
from stoker.queue import scripts
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.reads.statistics import read_totals
from stoker.queue.records import QueueStats
from stoker.queue.schedules import Schedules
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient
from stoker.redis.client import ask as redis_ask
from stoker.redis.connect import connect
from stoker.redis.reply_limit import NARROW
from stoker.rules.admission import Admission
from stoker.rules.identity import QueueId
from stoker.rules.message import Message, encode_payload
from stoker_operator.queues import redis_pool
from stoker_operator.queues.autoscaler import Autoscaler
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.findings import Reading
from stoker_operator.state.problem import Reason
from stoker_operator.state.redis_problem import redis_unreadable
from tests.operator.operating import unique, until
from tests.redis_servers import Kind, Valkey
from tests.redis_topologies import ask, running_cluster
from tests.strange_redis import resp, strange_redis

SPEC = TaskQueueSpec(worker=Worker())


def numbered(url: str, database: int) -> str:
    """Another URL of the same server: another Redis, as far as the pool knows."""
    return f"{url.rsplit('/', 1)[0]}/{database}"


@pytest.fixture
async def pool() -> AsyncIterator[RedisPool]:
    opened = RedisPool(timeout=0.5, max_open=2)
    yield opened
    await opened.close()
    assert not opened.open


@pytest.fixture
async def patient() -> AsyncIterator[RedisPool]:
    """A pool whose calls do not time out on a busy machine."""
    opened = RedisPool(timeout=5.0)
    yield opened
    await opened.close()


def queue(name: str, namespace: str = "shop") -> list[QueueId]:
    """A queue of one partition, as the pool reads it."""
    return [QueueId(namespace, name)]


def reasons(readings: Sequence[Reading]) -> list[Reason | None]:
    return [reading.problem.reason if reading.problem else None for reading in readings]


async def test_all_queues_of_one_redis_share_one_connection(pool: RedisPool, shared_valkey: Valkey) -> None:
    assert all(reading.stats for reading in await pool.read(shared_valkey.url, [queue("a"), queue("b")]))
    assert all(reading.stats for reading in await pool.read(shared_valkey.url, [queue("c")]))
    assert list(pool.open) == [shared_valkey.url]


async def test_queues_of_all_namespaces_are_read_in_one_round_trip(
    pool: RedisPool, shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = connect(shared_valkey.url)
    name = unique("emails")
    await Broker(redis, Keys("shop", name)).enqueue([Admission(Message("a", "t", encode_payload({}), name, 0))])
    await redis.aclose()
    trips, run = [], scripts.run

    async def counted(client: RedisClient, *calls: ScriptCall) -> list[object]:
        trips.append(len(calls))
        return await run(client, *calls)

    monkeypatch.setattr(scripts, "run", counted)
    readings = await pool.read(shared_valkey.url, [queue(name, "shop"), queue(name, "mail")])
    assert [reading.stats and reading.stats.ready for reading in readings] == [1, 0]
    assert trips == [2]


async def test_a_connection_that_no_queue_uses_is_closed(pool: RedisPool, shared_valkey: Valkey) -> None:
    used, unused = (numbered(shared_valkey.url, database) for database in (0, 1))
    for url in (used, unused):
        await pool.read(url, [queue("a")])
    await pool.keep_only([used])
    assert list(pool.open) == [used]
    assert reasons(await pool.read(unused, [queue("a")])) == [None]  # opened again on demand


async def test_a_connection_in_use_is_not_closed(pool: RedisPool, shared_valkey: Valkey) -> None:
    async def look(schedules: Schedules) -> None:
        await pool.keep_only([])
        await schedules.all()

    await pool.with_schedules(shared_valkey.url, QueueId("shop", "a"), look)
    await pool.keep_only([])
    assert not pool.open


async def test_the_least_recently_used_connection_makes_room(pool: RedisPool, shared_valkey: Valkey) -> None:
    first, second, third = (numbered(shared_valkey.url, database) for database in (0, 1, 2))
    for url in (first, second, first, third):
        assert reasons(await pool.read(url, [queue("a")])) == [None]
    assert list(pool.open) == [first, third]


async def test_where_all_connections_are_in_use_a_read_waits_for_one(
    pool: RedisPool, shared_valkey: Valkey, silent_redis: str
) -> None:
    release = asyncio.Event()

    async def hold(_: Schedules) -> None:
        await release.wait()

    held = [asyncio.create_task(pool.with_schedules(numbered(shared_valkey.url, at), QueueId("shop", "a"), hold)) for at in (0, 1)]
    await asyncio.sleep(0)
    third = asyncio.create_task(pool.read(numbered(shared_valkey.url, 2), [queue("a")]))
    await asyncio.sleep(0)
    assert not third.done()
    release.set()
    assert reasons(await third) == [None]
    await asyncio.gather(*held)

    release.clear()
    held = [asyncio.create_task(pool.with_schedules(numbered(shared_valkey.url, at), QueueId("shop", "a"), hold)) for at in (0, 1)]
    await asyncio.sleep(0)
    [reading] = await pool.read(silent_redis, [queue("a")])
    assert reading.problem
    assert "no free connection within 0.5s: 2 other Redis servers are in use" in reading.problem.message
    for blocked in await asyncio.gather(*held, return_exceptions=True):
        assert isinstance(blocked, RedisUnavailable)  # their own time is over as well


async def test_a_redis_that_hangs_delays_no_other(pool: RedisPool, shared_valkey: Valkey, silent_redis: str) -> None:
    stuck = asyncio.create_task(pool.read(silent_redis, [queue("a")]))
    await asyncio.sleep(0)
    assert reasons(await pool.read(shared_valkey.url, [queue("a")])) == [None]
    assert not stuck.done()
    assert reasons(await stuck) == [Reason.REDIS_UNREACHABLE]


async def test_a_url_that_cannot_be_parsed_is_a_problem_of_every_queue(pool: RedisPool) -> None:
    assert reasons(await pool.read("http://redis", [queue("a"), queue("b")])) == [Reason.INVALID_REDIS_URL] * 2
    assert not pool.open


async def test_a_reply_that_is_not_understood_is_a_problem_of_that_queue_alone(
    pool: RedisPool, shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a hostile Redis makes our code raise must not reach the loop that serves all the others."""

    async def totals(redis: RedisClient, queues: Sequence[Sequence[QueueId]], horizon: float = 0.0) -> list[QueueStats]:
        if queue("bad") in queues:
            raise IndexError("list index out of range")
        return await read_totals(redis, queues, horizon)

    monkeypatch.setattr(redis_pool, "read_totals", totals)
    readings = await pool.read(shared_valkey.url, [queue("good"), queue("bad"), queue("fine")])
    assert reasons(readings) == [None, Reason.REDIS_UNREADABLE, None]
    assert readings[1].problem
    assert readings[1].problem.message == "what answers there is no Redis that Stoker can read: see the operator's log"


STATS: list[object] = [3, *[0] * 13, b"", [], 0, 1_700_000_000_000]
"""What stats.lua returns for three ready tasks, without counters."""


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="the connection is closed"),
        pytest.param(b"+OK\r\n", id="a status"),
        pytest.param(b"-ERR no\r\n", id="an error"),
        pytest.param(b"-\xff\xfe\r\n", id="an error that is no text"),
        pytest.param(b"-NOSCRIPT again\r\n", id="no script, however often it is loaded"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x16", id="TLS"),
        pytest.param(b"$536870912\r\n", id="half a gigabyte is announced"),
        pytest.param(b"*1\r\n" * 20, id="lists within lists"),
        pytest.param(b"%1\r\n:1\r\n:2\r\n", id="a map"),
        pytest.param(b",1.5\r\n", id="a double"),
        pytest.param(b"(" + b"9" * 5000 + b"\r\n", id="a big number"),
        pytest.param(b":1\r\n:2\r\n:3\r\n", id="three replies for one"),
        pytest.param(resp(1), id="a number"),
        pytest.param(resp(b"text"), id="a text"),
        pytest.param(resp(None), id="nothing"),
        pytest.param(b"*-1\r\n", id="no list"),
        pytest.param(resp([]), id="an empty list"),
        pytest.param(resp(STATS[:-1]), id="one number too few"),
        pytest.param(resp([b"3"] * 18), id="texts for numbers"),
        pytest.param(resp([None] * 18), id="nothing for numbers"),
        pytest.param(resp([[3]] * 18), id="lists for numbers"),
        pytest.param(resp([*STATS[:14], b"soon", *STATS[15:]]), id="a text for the next run"),
        pytest.param(resp([*STATS[:16], b"fast", *STATS[17:]]), id="a text for the rate"),
    ],
)
async def test_a_wrong_reply_is_a_problem_of_that_redis_alone(patient: RedisPool, shared_valkey: Valkey, answer: bytes) -> None:
    async with strange_redis(answer) as url:
        strange, good = await asyncio.gather(
            patient.read(url, [queue("a"), [*queue("b"), *queue("b:1")]]), patient.read(shared_valkey.url, [queue("a")])
        )
        assert reasons(good) == [None]
        assert None not in reasons(strange)
        assert all(reading.stats is None for reading in strange)


@pytest.mark.parametrize(
    "banner",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="ssh"),
        pytest.param(b"220 mail ESMTP\r\n", id="smtp"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.2\r\n\r\n", id="http"),
        pytest.param(b"+OK POP3 ready\r\n-ERR no\r\n", id="pop3"),
        pytest.param(b"-ERR unknown command from secret-service 1.2\r\n", id="an error"),
        pytest.param(b"-secret\r\n", id="an error without a code"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", id="tls"),
        pytest.param(b"J\x00\x00\x00\x0a5.7.30\x00", id="mysql"),
        pytest.param(resp([b"text", [b"list"]]), id="a list"),
        pytest.param(resp(b"text"), id="a text"),
    ],
)
async def test_whatever_is_no_redis_is_described_in_the_same_words(patient: RedisPool, banner: bytes) -> None:
    """A TaskQueue's author must not learn what listens at an address that only the operator reaches."""
    async with strange_redis(banner) as url:
        [reading] = await patient.read(url, [queue("a")])
    assert reading.problem == redis_unreadable()


@pytest.mark.parametrize(
    "counters",
    [
        pytest.param([b"enqueued", b"abc"], id="a text"),
        pytest.param([b"enqueued", b"-5"], id="less than nothing"),
        pytest.param([b"enqueued", b"1e400"], id="a float"),
        pytest.param([b"enqueued", b"9" * 5000], id="5000 digits"),
        pytest.param([b"enqueued", b"9223372036854775808"], id="more than Redis counts"),
        pytest.param([b"enqueued", b"\xc2\xb2"], id="a digit that is no number"),
        pytest.param([b"\xff", b"\xff"], id="a name that is no text"),
        pytest.param([b"enqueued"], id="a name without a count"),
        pytest.param([b"enqueued", 7], id="a number for a text"),
        pytest.param([[b"enqueued"], [b"7"]], id="lists"),
        pytest.param([b"busy_ms", b"9223372036854775807", b"succeeded", b"1"], id="a busy time of 292 million years"),
    ],
)
async def test_counters_that_another_program_wrote_do_not_hide_the_queue(patient: RedisPool, counters: list[object]) -> None:
    async with strange_redis(resp([*STATS, *counters])) as url:
        [reading] = await patient.read(url, [queue("a")])
        assert reading.stats, reading.problem
        assert (reading.stats.ready, reading.stats.totals.enqueued) == (3, 0)
        decide(demand_of(reading.stats), policy_of(SPEC), 1, None, 0.0)


async def test_a_reply_that_is_too_large_is_a_problem_of_that_queue_alone(
    patient: RedisPool, shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cuts the connection that the reads of the other queues share."""

    async def totals(redis: RedisClient, queues: Sequence[Sequence[QueueId]], horizon: float = 0.0) -> list[QueueStats]:
        if queue("bad") in queues:
            await redis_ask(redis, "GETRANGE", key, 0, -1)
        return await read_totals(redis, queues, horizon)

    key = unique("large")
    redis = connect(shared_valkey.url)
    await redis_ask(redis, "SETRANGE", key, NARROW, b"x")
    monkeypatch.setattr(redis_pool, "read_totals", totals)
    readings = await patient.read(shared_valkey.url, [queue("a"), queue("bad"), queue("b"), queue("c")])
    assert reasons(readings) == [None, Reason.REDIS_REFUSED, None, None]
    assert readings[1].problem
    assert readings[1].problem.message.startswith("a reply exceeds 1.06 MiB: the connection was cut")
    await redis_ask(redis, "DEL", key)
    await redis.aclose()


async def test_a_round_that_raises_ends_with_its_redis(monkeypatch: pytest.MonkeyPatch, pool: RedisPool) -> None:
    """One TaskGroup runs the rounds of all Redis servers: an exception of one would cancel the others."""

    async def read(*_: object) -> list[Reading]:
        raise RuntimeError("a defect")

    async def keep_only(*_: object) -> None:
        raise RuntimeError("another")

    monkeypatch.setattr(pool, "read", read)
    monkeypatch.setattr(pool, "keep_only", keep_only)
    store: Any = SimpleNamespace(by_redis=lambda: {"redis://a": [], "redis://b": []}, all=list, get=lambda ref: None)
    autoscaler = Autoscaler(Any, store, Any, pool, Any)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        autoscaler.start_round(group)


async def test_a_cluster_that_has_lost_a_node_is_read_as_far_as_it_goes() -> None:
    with running_cluster(Kind.VALKEY_9) as cluster:
        for node in cluster.masters:
            ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        queues = {cluster.owner(Keys("shop", name).ready).port: name for name in map("queue-{}".format, range(40))}
        redis = connect(cluster.url)
        for name in queues.values():
            await Broker(redis, Keys("shop", name)).enqueue([Admission(Message("a", "t", encode_payload({}), name, 0))])
        await redis.aclose()
        lost, *left = cluster.masters
        pool = RedisPool(2.0)
        partitions = [queue(queues[node.port]) for node in (lost, *left)]
        assert all(reading.stats for reading in await pool.read(cluster.url, partitions))

        lost.stop()

        async def found() -> list[Reading]:
            blind, *others = await pool.read(cluster.url, partitions)
            return [blind] if blind.problem and all(each.stats and each.stats.ready == 1 for each in others) else []

        [blind] = await until(found)
        assert blind.problem.reason is Reason.REDIS_UNREACHABLE
        await pool.close()
