"""The rate limit in Redis: all workers together, exactly as the arithmetic has it, and idle ones are left in peace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.manifest.policies import RateLimit
from stoker.queue.records import Holds
from stoker.rules.admission import Admission
from tests.engine.line import DONE, Line, message, now, open_line
from tests.rate_meter import Meter, allowed, let_go
from tests.redis_servers import Valkey

TEN_A_SECOND = RateLimit(10, 5)
# Time goes on while a test thinks, so a wait may be found shorter than it was told, and never longer.
A_TENTH, A_TWENTIETH = pytest.approx(0.05, abs=0.05), pytest.approx(0.025, abs=0.025)


@pytest.fixture
async def slow(redis_url: str) -> AsyncIterator[Line]:
    """A queue of ten tasks a second, five at once, with twenty that wait."""
    async with limited(redis_url, TEN_A_SECOND) as line:
        await line.enqueue(*(f"{number:02}" for number in range(20)))
        await now(line.redis.delete(line.keys.wake))
        yield line


def limited(url: str, rate_limit: RateLimit) -> AbstractAsyncContextManager[Line]:
    return open_line(url, rate_limit=rate_limit, max_lost=5)


async def woken(line: Line) -> bool:
    """Takes the wake token, if there is one."""
    return await now(line.redis.lpop(line.keys.wake)) is not None


async def test_all_workers_share_one_limit(slow: Line) -> None:
    assert len(await slow.fetch(3, "one")) == 3
    assert len(await slow.fetch(3, "two")) == 2
    assert await slow.fetch(3, "three") == []
    await slow.pass_time(0.2)
    assert [delivery.id for delivery in await slow.fetch(3, "three")] == ["05", "06"]


async def test_a_release_gives_no_token_back(slow: Line) -> None:
    """The limit is about starts: what a task does to the world begins then."""
    taken = await slow.fetch(5)
    await slow.settle(taken[0], DONE)
    assert await slow.fetch(5) == []


async def test_one_worker_learns_when_to_come_back_and_no_other_is_woken(slow: Line) -> None:
    turn = await slow.look(10, "watcher")
    assert len(turn.deliveries) == 5
    assert turn.back_in == A_TENTH
    assert (await slow.look(10, "idle")).back_in is None
    assert (await slow.look(10, "watcher")).back_in == A_TENTH, "it may ask again"
    assert not await woken(slow)
    await slow.pass_time(0.1)
    turn = await slow.look(10, "watcher")
    assert ([delivery.id for delivery in turn.deliveries], turn.back_in) == (["05"], A_TENTH)
    assert not await woken(slow)


async def test_a_watcher_without_room_hands_the_watch_on(slow: Line) -> None:
    await slow.look(6, "watcher")
    assert not await woken(slow)
    await slow.pass_time(0.1)
    assert len((await slow.look(1, "watcher")).deliveries) == 1
    assert await woken(slow), "it is full, and others may have room"
    assert (await slow.look(1, "next")).back_in == A_TENTH


async def test_a_watcher_that_leaves_hands_the_watch_on(slow: Line) -> None:
    await slow.look(6, "watcher")
    await slow.broker.pass_on()
    assert await woken(slow)
    assert (await slow.look(6, "next")).back_in is not None


async def test_a_watcher_that_died_is_replaced_after_its_time(slow: Line) -> None:
    await slow.look(6, "watcher")
    await slow.pass_time(0.1)
    turn = await slow.look(6, "whoever looks next")
    assert len(turn.deliveries) == 1
    assert turn.back_in is not None


async def test_the_last_task_leaves_nothing_to_watch(redis_url: str) -> None:
    async with limited(redis_url, TEN_A_SECOND) as line:
        await line.enqueue(*"abcde")
        turn = await line.look(10)
        assert (len(turn.deliveries), turn.back_in) == (5, None)
        assert not (await line.stats()).throttled


async def test_a_scheduled_task_that_falls_due_first_is_not_forgotten(slow: Line) -> None:
    await slow.enqueue("soon", delay=0.05)
    assert (await slow.look(10)).back_in == A_TENTH
    looked = await slow.broker.mind("w")
    assert looked is not None
    assert looked.next_in == A_TWENTIETH
    await slow.pass_time(0.06)
    looked = await slow.broker.mind("w")
    assert looked is not None
    assert looked.names == {"promotion"}


async def test_suspects_stand_behind_the_limit_too(redis_url: str) -> None:
    async with limited(redis_url, RateLimit(10, 1)) as line:
        await line.enqueue("a", "b")
        await line.fetch(1, "dies")
        await line.pass_time(31)
        await line.broker.reap()
        assert await line.order(5) == ["a"]
        await line.pass_time(0.1)
        assert await line.order(5) == ["b"]


async def test_a_suspect_that_this_worker_may_not_take_is_watched_by_another(redis_url: str) -> None:
    async with limited(redis_url, RateLimit(10, 2)) as line:
        await line.enqueue("a", "b")
        for _ in range(2):
            await line.fetch(2, "dies")
            await line.pass_time(31)
            await line.broker.reap()
        await woken(line)
        await now(line.redis.hset(line.keys.meta, "debt", 1000))
        turn = await line.look(5, "one")
        assert ([delivery.id for delivery in turn.deliveries], turn.back_in) == (["a"], None)
        assert await woken(line)
        await now(line.redis.hset(line.keys.meta, "debt", 2000))
        assert (await line.look(5, "one", Holds.SUSPECT)).back_in is None
        assert (await line.look(5, "two")).back_in is not None


async def test_statistics_tell_that_the_limit_holds_tasks_back(slow: Line) -> None:
    assert not (await slow.stats()).throttled
    await slow.look(5, "full")
    assert not (await slow.stats()).throttled, "the workers are what holds them back"
    await slow.look(1, "free")
    assert (await slow.stats()).throttled
    await slow.pass_time(5)
    assert not (await slow.stats()).throttled, "nobody comes for them"


async def test_without_a_limit_nothing_is_kept(line: Line) -> None:
    await line.enqueue("a", "b")
    await line.fetch(1)
    assert not {b"debt", b"debt_at", b"watcher"} & set(await now(line.redis.hkeys(line.keys.meta)))


async def meter(line: Line) -> Meter:
    debt, at = await now(line.redis.hmget(line.keys.meta, "debt", "debt_at"))
    return Meter(int(debt or 0), int(at or 0))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    per_second=st.sampled_from([1, 3, 7, 100, 999, 1_000_000]),
    burst=st.sampled_from([1, 2, 3, 17, 1_000_000]),
    visits=st.lists(st.tuples(st.sampled_from([0, 0, 1, 3, 50, 333, 1000, 60_000]), st.integers(1, 9)), min_size=1, max_size=12),
)
def test_the_script_does_the_arithmetic(shared_valkey: Valkey, per_second: int, burst: int, visits: list[tuple[int, int]]) -> None:
    async def story() -> None:
        async with limited(shared_valkey.url, RateLimit(per_second, burst)) as line:
            await line.broker.enqueue([Admission(message(f"{number:03}")) for number in range(200)])
            told: list[tuple[int, int]] = []
            for pause, room in visits:
                await line.pass_time(pause / 1000)
                before, earlier = await meter(line), await line.clock()
                turn = await line.look(room)
                after, started = await meter(line), len(turn.deliveries)
                if started:
                    assert started == min(room, allowed(per_second, burst, before, after.at))
                    assert after == let_go(per_second, before, started, after.at)
                    told.append((after.at, started))
                else:
                    assert allowed(per_second, burst, before, earlier) == 0
                    assert after == before
                if started < room:
                    assert turn.back_in is not None
                    await line.pass_time(turn.back_in)
                    assert await line.fetch(1), "whoever comes back when told gets a task"
                    told.append(((await meter(line)).at, 1))
            for first, (begin, _) in enumerate(told):
                for last in range(first, len(told)):
                    started = sum(tasks for _, tasks in told[first : last + 1])
                    assert started <= burst + Fraction(per_second * (told[last][0] - begin), 1000)

    shared_valkey.flush()
    asyncio.run(story())
