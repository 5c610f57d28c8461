"""Replies beyond the limit cut the connection, before they take memory: what a hostile server sends costs its own reader alone."""

import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from stoker.errors import RedisRefused, RedisUnavailable
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.reads.inspector import Inspector
from stoker.redis.client import RedisClient, ask
from stoker.redis.connect import connect
from stoker.redis.reply_limit import BUDGET, NARROW, SMALL, NotRedis, ReplyLimit, ReplyMeter, ReplyTooLarge
from stoker.rules.admission import Admission
from stoker.rules.message import MAX_PAYLOAD_BYTES, Message, encode_payload
from stoker.rules.states import TaskState
from tests.redis_servers import Kind, Valkey
from tests.redis_topologies import running_cluster
from tests.strange_redis import resp, strange_redis

MIB = 1024 * 1024
PONG = b"+PONG\r\n"
TOO_LARGE = {
    "a huge string": b"$%d\r\n" % (512 * MIB) + b"x" * (20 * MIB),
    "a string that is announced alone": b"$%d\r\n" % (512 * MIB),
    "an array of 2^31 that never comes": b"*2147483647\r\n",
    "an array that no list can hold": b"*4294967290\r\n",
    "a number of 40 digits": b"*" + b"9" * 40 + b"\r\n",
    "many small arrays": b"*200000\r\n" + b"*0\r\n" * 200_000 + b"*200000\r\n" + b"*0\r\n" * 200_000,
    "arrays within arrays": b"*1000\r\n" * 1000,
    "an array within an array, split": b"*2\r\n$3\r\nabc\r\n*2147483647\r\n",
    "an error without an end": b"-ERR " + b"x" * (20 * MIB),
    "a line without an end": b"+" + b"x" * (20 * MIB),
}
NO_REDIS = {
    "a banner of SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a web server": b"HTTP/1.1 400 Bad Request\r\nServer: secret\r\n\r\n",
    "a push message": b">2\r\n+message\r\n+x\r\n",
    "a map": b"%2147483647\r\n",
    "a length that is none": b"$1e9\r\n",
    "a negative length": b"$-7\r\n",
    "arrays without an end": b"*1\r\n" * 200_000,
    "nothing but noise": bytes(range(256)) * 10,
}


TOPOLOGIES = {"one server": ("redis://", ""), "a cluster": ("redis+cluster://", ""), "sentinels": ("redis+sentinel://", "/m")}


def client(url: str, topology: str, limit: ReplyLimit) -> RedisClient:
    prefix, suffix = TOPOLOGIES[topology]
    return connect(prefix + url.removeprefix("redis://").partition("/")[0] + suffix, limit=limit)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("answer", TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_a_reply_that_is_too_large_costs_neither_memory_nor_time(answer: bytes, topology: str) -> None:
    limit = ReplyLimit.narrow()
    async with strange_redis(answer) as url:
        redis = client(url, topology, limit)
        began = time.process_time()
        tracemalloc.start()
        try:
            with pytest.raises((RedisRefused, RedisUnavailable)) as raised:
                await ask(redis, "GET", "key")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert b"xxxx" not in str(raised.value).encode()
        await redis.aclose()
    assert peak < 100 * MIB  # the fake server's own bytes among them
    assert time.process_time() - began < 5
    assert limit.held == 0


@pytest.mark.parametrize("answer", TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_the_error_names_the_limit(answer: bytes) -> None:
    async with strange_redis(answer) as url:
        redis = connect(url, limit=ReplyLimit.narrow())
        with pytest.raises((RedisRefused, RedisUnavailable), match=r"a reply exceeds 16 MiB|no Redis"):
            await ask(redis, "GET", "key")
        await redis.aclose()


@pytest.mark.parametrize("answer", NO_REDIS.values(), ids=NO_REDIS.keys())
async def test_what_is_no_redis_is_said_to_be_none_without_its_words(answer: bytes) -> None:
    async with strange_redis(answer) as url:
        redis = connect(url, limit=ReplyLimit.narrow())
        with pytest.raises(RedisUnavailable, match=r"^what answers there is no Redis") as raised:
            await ask(redis, "GET", "key")
        await redis.aclose()
    assert not any(word in str(raised.value) for word in ("SSH", "HTTP", "secret", "message"))


async def test_a_wide_limit_bounds_bytes() -> None:
    async with strange_redis(b"$%d\r\n" % (512 * MIB) + b"x" * (2 * MIB)) as url:
        redis = connect(url, limit=ReplyLimit(MIB))
        with pytest.raises(RedisRefused, match="a reply exceeds 1 MiB"):
            await ask(redis, "GET", "key")
        await redis.aclose()


LAWFUL = [
    resp([b"a", 1, None, [], [b"", [b"\r\n*9999999999\r\n", -5]], b"$9999999999\r\n"]),
    b"+OK\r\n",
    b"-ERR no\r\n",
    b"*-1\r\n",
    b":-12\r\n",
    resp(b"*2147483647\r\n" * 1000),
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100_000])
def test_lawful_replies_are_counted_wherever_they_are_cut(step: int) -> None:
    """Content that looks like a header is none."""
    limit = ReplyLimit.narrow()
    meter, wire = ReplyMeter(limit), b"".join(LAWFUL)
    for at in range(0, len(wire), step):
        meter.feed(wire[at : at + step])
    assert limit.held == len(wire) + 64 * 10
    meter.done()
    assert limit.held == 0


@pytest.mark.parametrize("step", [1, 2, 3, 7])
@pytest.mark.parametrize("hostile", [b"*2147483647\r\n", b"$536870912\r\n", b"!3\r\n"])
def test_a_header_is_found_wherever_it_is_cut(step: int, hostile: bytes) -> None:
    meter, wire = ReplyMeter(ReplyLimit.narrow()), b"".join(LAWFUL) + hostile
    with pytest.raises((ReplyTooLarge, NotRedis)):
        _ = [meter.feed(wire[at : at + step]) for at in range(0, len(wire), step)]  # type: ignore[func-returns-value]


def test_all_connections_of_a_process_share_a_budget_and_small_replies_always_pass() -> None:
    limit = ReplyLimit.narrow()
    large = [ReplyMeter(limit) for _ in range(BUDGET // NARROW)]
    for meter in large:
        meter.feed(b"$%d\r\n" % (NARROW - 1000) + b"x" * (NARROW - 1500))
    small, late = ReplyMeter(limit), ReplyMeter(limit)
    small.feed(resp(b"x" * (SMALL // 2)))
    with pytest.raises(ReplyTooLarge):
        late.feed(resp(b"x" * (2 * SMALL)))
    for meter in (*large, small, late):
        meter.done()
    assert limit.held == 0
    late.feed(resp(b"x" * (2 * SMALL)))


@pytest.fixture
async def narrow(shared_valkey: Valkey) -> AsyncIterator[RedisClient]:
    redis = connect(shared_valkey.url, limit=ReplyLimit.narrow())
    yield redis
    await redis.aclose()


def large_tasks(queue: str, count: int) -> list[Admission]:
    payload = encode_payload({"text": "x" * (MAX_PAYLOAD_BYTES - 20)})
    return [Admission(Message(f"{number:03}", "t", payload, queue, 0)) for number in range(count)]


async def test_the_largest_lawful_page_comes_in_parts(narrow: RedisClient) -> None:
    keys = Keys("limits", "large")
    for at in range(5):
        await Broker(narrow, keys).enqueue(large_tasks("large", 100)[at * 20 : at * 20 + 20])
    page = await Inspector(narrow, "limits").tasks("large", TaskState.READY, 0, 100)
    assert [task.id for task in page.tasks] == [f"{number:03}" for number in range(100)]
    assert {len(bytes(task.payload)) for task in page.tasks} == {MAX_PAYLOAD_BYTES - 20 + len('{"text":""}')}


async def test_what_another_program_wrote_into_the_counters_does_not_make_statistics_large(narrow: RedisClient) -> None:
    keys = Keys("limits", "counted")
    await Broker(narrow, keys).enqueue(large_tasks("counted", 1))
    await ask(narrow, "HSET", keys.stats, "enqueued", b"7" * (NARROW // 2), "x", b"y" * (NARROW - 1000), "y", b"z" * NARROW)
    [stats] = await Inspector(narrow, "limits").stats(["counted"])
    assert (stats.ready, stats.totals.enqueued, stats.totals.released) == (1, 0, 0)


async def test_all_ids_of_dead_tasks_are_read_in_parts(narrow: RedisClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.queue.reads.inspector.IDS_AT_ONCE", 3)
    keys = Keys("limits", "dead")
    await narrow.round_trip([])
    await ask(narrow, "ZADD", keys.dead, *(each for number in range(10) for each in (number, f"id{number}")))
    assert await Inspector(narrow, "limits")._dead_ids("dead") == [f"id{number}" for number in range(10)]


async def test_the_lawful_replies_of_a_cluster_pass_a_narrow_limit() -> None:
    with running_cluster(Kind.VALKEY_9) as cluster:
        redis = connect(cluster.url, limit=ReplyLimit.narrow())
        await Broker(redis, Keys("limits", "emails")).enqueue(large_tasks("emails", 10))
        assert len((await Inspector(redis, "limits").tasks("emails", TaskState.READY)).tasks) == 10
        await redis.aclose()
