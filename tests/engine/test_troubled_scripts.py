"""Servers that forget, fill up or go away; data that should not be there."""

import asyncio

import msgspec
import pytest

from stoker.errors import Invalid, RedisFull, RedisUnavailable
from stoker.queue.scripts import load
from stoker.queue.settlements import Settlement
from stoker.redis.connect import connect
from stoker.redis.url import shown_address
from stoker.rules.admission import Admission
from stoker.rules.settle import Bury, Retry
from stoker.rules.states import TaskState
from tests.engine.line import DONE, FAILURE, Line, message, now, open_line
from tests.redis_servers import Valkey, running_valkey

pytestmark = pytest.mark.every_server


async def test_scripts_that_the_server_forgot_are_sent_again(line: Line) -> None:
    for step in range(3):
        await line.redis.script_flush()
        await line.enqueue(*(f"{step}-{number}" for number in range(450)))
        await line.redis.script_flush()
        deliveries = await line.fetch(200)
        await line.redis.script_flush()
        turn = await line.broker.turn([Settlement(each.id, each.fence, DONE) for each in deliveries], 1, "w")
        assert turn.refused == []
        await line.settle(turn.deliveries[0], DONE)
        await line.redis.script_flush()
        assert (await line.stats()).totals.succeeded == 201 * (step + 1)


async def test_a_server_that_can_fetch_can_settle(line: Line) -> None:
    """A turn does both in one round trip, and a fetch that ran alone would not see what was settled with it."""
    await line.redis.script_flush()
    await line.fetch()
    assert await now(line.redis.script_exists(load("settle").sha, load("settle", old=True).sha)) != [False, False]


async def test_scripts_flushed_again_and_again_while_in_use(line: Line) -> None:
    async def flush() -> None:
        for _ in range(100):
            await line.redis.script_flush()

    async def work(name: str) -> None:
        for step in range(25):
            await line.enqueue(f"{name}-{step}")
            for delivery in await line.fetch(5, name):
                assert await line.settle(delivery, DONE)

    await asyncio.gather(flush(), work("a"), work("b"))
    assert (await line.stats()).totals.succeeded == 50


async def test_an_id_without_an_envelope_is_counted_and_not_run(line: Line) -> None:
    await line.enqueue("a", "ghost", "b")
    await now(line.redis.hdel(line.keys.tasks, "ghost"))
    assert await line.order() == ["a", "b"]
    assert (await line.stats()).totals.invariant_violations == 1


async def test_one_unreadable_envelope_does_not_hide_the_others(line: Line) -> None:
    await line.enqueue("a", "broken", "b")
    for delivery in await line.fetch():
        await line.settle(delivery, Bury(FAILURE))
    await now(line.redis.hset(line.keys.tasks, "broken", b"\xff not JSON"))
    page = await line.inspector.tasks("emails", TaskState.DEAD)
    assert {task.id for task in page.tasks} == {"a", "b", "broken"}
    assert await line.inspector.redrive("emails", ["broken"]) == ["broken"]


async def test_an_id_taken_by_an_unreadable_envelope_is_a_conflict(line: Line) -> None:
    await line.enqueue("a")
    await now(line.redis.hset(line.keys.tasks, "a", b"not JSON"))
    [outcome] = await line.broker.enqueue([Admission(message("a"))])
    assert isinstance(outcome, Exception)


async def test_a_full_server_takes_nothing_new_but_lets_the_queue_drain() -> None:
    """At maxmemory only an enqueue is refused: all that frees room, and all that is needed to scale, still works."""
    with running_valkey("--maxmemory-policy", "noeviction") as server:
        async with open_line(server.url) as line:
            await line.enqueue("a", "b", "c", "d", "e", "f")
            await line.enqueue("later", delay=5)
            taken = await line.fetch(5)
            await line.redis.config_set("maxmemory", "1")

            with pytest.raises(RedisFull, match="maxmemory"):
                await line.enqueue("new")
            assert (await line.stats()).ready == 1
            assert (await line.status("a")).state is TaskState.RUNNING
            assert (await line.beat(*taken)).lost == []
            assert await line.settle(taken[0], DONE)
            assert await line.settle(taken[1], Retry(0, FAILURE))
            assert await line.settle(taken[2], Bury(FAILURE))
            assert await line.settle(taken[3], Bury(FAILURE))
            assert await line.inspector.redrive("emails", [taken[2].id]) == [taken[2].id]
            assert await line.inspector.delete("emails", [taken[3].id]) == [taken[3].id]
            await pass_time(line, 31)
            assert (await line.broker.promote())[0] == 1
            assert (await line.broker.reap()).given_back == 1
            assert await line.broker.sweep() == (0, 0)
            assert len(await line.fetch()) == 5
            await line.broker.forget_worker("w")
            await line.redis.config_set("maxmemory", "0")


async def pass_time(line: Line, seconds: float) -> None:
    """As `Line.pass_time`, on a server that refuses plain writes."""
    await line.redis.config_set("maxmemory", "0")
    await line.pass_time(seconds)
    await line.redis.config_set("maxmemory", "1")


async def test_a_server_that_is_not_there_is_unavailable(own_valkey: Valkey) -> None:
    async with open_line(own_valkey.url) as line:
        await line.enqueue("a")
        own_valkey.stop()
        for call in (line.stats(), line.fetch(), line.enqueue("b"), line.broker.wait_for_work(1), line.broker.register()):
            with pytest.raises(RedisUnavailable):
                await call
        own_valkey.start()
        assert (await line.stats()).ready == 0


async def test_many_callers_at_once_share_the_connections(line: Line) -> None:
    """A web application answers hundreds of requests at a time, each of which enqueues."""
    await asyncio.gather(*(line.enqueue(f"t{number}") for number in range(300)))
    assert (await line.stats()).ready == 300


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="nothing"),
        pytest.param("localhost:6379", id="no scheme"),
        pytest.param("http://localhost", id="another scheme"),
        pytest.param("redis://localhost:port/0", id="a port in words"),
        pytest.param("redis://user:hunter2@localhost:99999999999/0", id="a port that is none"),
    ],
)
async def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Invalid, match="Redis URL") as refused:
        connect(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379"),
        ("redis://:secret@localhost", "redis://***@localhost"),
        ("rediss://user:se@cret@host:1/2", "rediss://***@host:1"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert shown_address(url) == shown


async def test_what_a_worker_says_of_itself_is_kept_as_it_is(line: Line) -> None:
    await line.beat(worker="w-1")
    assert msgspec.json.decode(await now(line.redis.hget(line.keys.workers, "w-1"))) == {}
