"""Records of a queue that hold nonsense, and replies that lie: nothing ends the operator, and nothing scales workers down.

Whatever is in Redis, each loop's own code reads it: the autoscaler's read, its decision, the conditions, the status and the
metrics, the claim, the schedules, and the reclaim of an ended pod.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from stoker.autoscale.decide import decide
from stoker.autoscale.demand import demand_of, policy_of
from stoker.autoscale.scaling_record import scaling_record
from stoker.errors import StokerError
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.timekeeper import Timekeeper
from stoker.redis.connect import connect
from stoker.rules.admission import Admission
from stoker.rules.identity import Holder, QueueId
from stoker.rules.losses import LossCause
from stoker.rules.message import IdFactory, Message, encode_payload
from stoker_operator import metrics
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.report.conditions import conditions
from stoker_operator.report.status import status
from stoker_operator.state.findings import Findings, Reading, RedisQueue, Workers
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.problem import REDIS_AWAY
from stoker_operator.state.queue_store import QueueStore
from tests.operator.observed import REF, task_queue
from tests.operator.operating import unique
from tests.redis_servers import Valkey, running_valkey
from tests.strange_redis import resp, strange_redis

WORKERS = 3
TASKS = 100
HOUR = 3_600_000
GOOD = QueueId("shop", "good")


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """Of this module: a script that a record makes loop would stop the others' as well."""
    with running_valkey() as running:
        yield running


def attributes() -> list[str]:
    """Every record of a queue, but the line of ready tasks: that is the truth here."""
    names = [name for name, value in vars(Keys).items() if isinstance(value, property) and not name.startswith("_")]
    assert len(names) > 30
    return sorted(set(names) - {"ready"})


now = int(time.time() * 1000)
moments = st.sampled_from([0, -1, now, now + HOUR, now - HOUR, 2**53, 2**63 - 1, 10**30])
texts = st.one_of(
    st.binary(max_size=20),
    moments.map(lambda moment: str(moment).encode()),
    st.sampled_from(
        [b"", b"nan", b"inf", b"-1", b"{}", b"[]", b"null", b"[[[[", b'{"a":', b"a b c", b"\x1f\x1f", b"9" * 400, b"1e308"]
    ),
    moments.map(lambda moment: json.dumps({"moment": moment, "slots": moment, "version": None, "names": [1, {}]}).encode()),
)
scores = st.one_of(moments.map(float), st.sampled_from([float("inf"), float("-inf"), -1e300, 1e300, 0.5]))
fields = st.dictionaries(texts.filter(bool), texts, min_size=1, max_size=4)
contents = st.one_of(
    st.tuples(st.just("string"), texts),
    st.tuples(st.just("list"), st.lists(texts, min_size=1, max_size=3)),
    st.tuples(st.just("set"), st.lists(texts, min_size=1, max_size=3)),
    st.tuples(st.just("zset"), st.dictionaries(texts, scores, min_size=1, max_size=4)),
    st.tuples(st.just("hash"), fields),
    st.tuples(st.just("stream"), fields),
)
nonsense = st.dictionaries(st.sampled_from(attributes()), contents, min_size=1, max_size=12)


def write(client: redis.Redis, key: str, kind: str, content: Any) -> None:
    """Replace a record."""
    client.delete(key)
    match kind:
        case "string":
            client.set(key, content)
        case "list":
            client.rpush(key, *content)
        case "set":
            client.sadd(key, *content)
        case "zset":
            client.zadd(key, content)
        case "hash":
            client.hset(key, mapping=content)
        case "stream":
            client.xadd(key, content)


@asynccontextmanager
async def pool_of() -> AsyncIterator[RedisPool]:
    pool = RedisPool(timeout=5.0)
    try:
        yield pool
    finally:
        await pool.close()


async def every_loop(pool: RedisPool, url: str, name: str) -> ManagedQueue:
    """What the operator's loops do with one queue. None of these raises but what its loop takes for a problem of that queue."""
    manifest = task_queue(queue={"name": name}, scaling={"backlogPerReplica": 10, "idleAfter": "1s"})
    source = RedisQueue(url, manifest)
    queue = ManagedQueue(REF, Findings("uid", 1, manifest, url, Workers("uid", WORKERS, WORKERS, WORKERS, template="t")), {})
    [reading] = await pool.probe(url, [source.partitions])
    queue.read(reading)
    demand = demand_of(reading.stats, "t") if reading.stats else None
    decision = decide(demand, policy_of(manifest.spec), WORKERS, None, 0.0)
    queue.decided(decision)
    if demand is not None:
        await pool.record(url, source.id, scaling_record(decision, WORKERS, demand, ""))
        try:
            definitions = manifest.schedules
            await pool.with_schedules(
                url, source.id, lambda known: Timekeeper().keep(known, definitions=definitions, version=1, stats=reading.stats)
            )
        except StokerError:
            pass  # logged once, and tried again
    await pool.claim(url, source.id, Holder("cluster", REF.namespace, REF.name, "uid"))
    await pool.reap(url, source.id, "emails-worker-1", 3, LossCause.CRASHED)
    return queue


def shown(queue: ManagedQueue) -> dict[str, Any]:
    """The status and the metrics, as they leave the process. Returns the status."""
    known = queue.snapshot_at(0.0)
    written = status(queue.ref, known, conditions(known), {}, "2026-01-01T00:00:00Z")
    text = json.dumps(written, allow_nan=False)
    assert len(text) < 20_000
    store = QueueStore()
    store._queues[queue.ref] = queue
    generate_latest(metrics.registry(store))
    for count in (written.get("queue") or {}).values():
        assert not isinstance(count, int) or 0 <= count < 2**63, written
    return written


def holds(queue: ManagedQueue) -> None:
    """No fewer workers than before; and where the queue is blind, a condition says so."""
    assert queue.scaling
    assert queue.scaling.desired >= WORKERS, (queue.reading, queue.scaling)
    by_type = {each["type"]: each for each in shown(queue)["conditions"]}
    assert by_type["RedisReachable"]["status"] == ("True" if queue.reading.stats else "False")
    assert queue.reading.stats or queue.reading.problem
    assert queue.reading.problem is None or queue.reading.problem.reason in REDIS_AWAY


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=nonsense)
@example(records={"suspects": ("zset", {b"a": float("inf")})})  # a script that looks for the next level found it for ever
@example(records={"suspects": ("zset", {b"a": 1e300, b"b": float("-inf")})})
@example(records={"beats": ("zset", {b"a": float(now + HOUR)}), "leases": ("zset", {b"a": float(now + HOUR)})})
@example(records={"meta": ("hash", {b"rate": b"nan", b"watch_until": b"inf", b"clock": b"-1"})})
@example(records={"meta": ("string", b"half")})
def test_nonsense_in_the_records_of_a_queue_ends_there(server: Valkey, records: dict[str, tuple[str, Any]]) -> None:
    name = unique("nonsense")
    keys = Keys(REF.namespace, name)

    async def work() -> None:
        ids, client = IdFactory(), connect(server.url)
        messages = [Message(ids(), "t", encode_payload({}), name, now) for _ in range(TASKS)]
        await Broker(client, keys).enqueue([Admission(each) for each in messages])
        await client.aclose()
        with redis.Redis.from_url(server.url) as direct:
            for attribute, (kind, content) in records.items():
                write(direct, getattr(keys, attribute), kind, content)
        async with pool_of() as pool:
            queue = await every_loop(pool, server.url, name)
            [good] = await pool.probe(server.url, [[GOOD]])
            assert good.stats, good.problem
            if "meta" in records:  # which may say that the queue is paused: no demand then, and that is what it says
                shown(queue)
            else:
                holds(queue)

    asyncio.run(work())


STATS: list[object] = [TASKS, 3, *[0] * 12, b"", [], 0, now]
parts = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=10),
    st.none(),
    st.lists(st.integers(-5, 5), max_size=3),
)
lies = st.lists(st.tuples(st.integers(0, len(STATS) - 1), parts), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(lies=lies, counters=st.lists(parts, max_size=6))
def test_a_server_that_lies_ends_at_its_own_queue(lies: list[tuple[int, object]], counters: list[object]) -> None:
    """It answers every command with statistics of which some parts are of another type, negative, or absurd."""
    answer = list(STATS)
    for at, lie in lies:
        answer[at] = lie

    async def work() -> None:
        async with strange_redis(resp([*answer, *counters])) as url, pool_of() as pool:
            queue = await every_loop(pool, url, "lies")
            said: Reading = queue.reading
            if said.stats is None:
                holds(queue)
            else:
                shown(queue)
                assert all(number >= 0 for number in (said.stats.ready, said.stats.running, said.stats.scheduled, said.stats.due))

    asyncio.run(work())


@pytest.mark.parametrize("position", range(9))
@pytest.mark.parametrize("number", [-1, 2**63 - 1])
async def test_no_number_of_tasks_is_negative_or_absurd(position: int, number: int) -> None:
    answer = list(STATS)
    answer[position] = number
    async with strange_redis(resp(answer)) as url, pool_of() as pool:
        holds(await every_loop(pool, url, "lies"))
