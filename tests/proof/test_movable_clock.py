"""The server's clock, really moved: by hours, ahead and back. Nothing is lost, no lease is stuck, and the late are refused."""

import time
from collections.abc import AsyncIterator

import pytest

from stoker.queue.reaping import Reaped
from tests.engine.line import DONE, LEASE, Line, now, open_line
from tests.proof.movable import NEW_YEAR_2027, MovableClock
from tests.redis_servers import Server

HOUR = 3600_000
Timed = tuple[Server, MovableClock]


@pytest.fixture
async def line(timed: Timed) -> AsyncIterator[Line]:
    async with open_line(timed[0].url) as opened:
        yield opened


async def server_time(line: Line) -> float:
    seconds, microseconds = await now(line.redis.time())
    return float(seconds * 1000 + microseconds / 1000)


async def test_the_clock_is_where_it_was_put(line: Line, timed: Timed) -> None:
    for moment in (NEW_YEAR_2027, NEW_YEAR_2027 + HOUR, NEW_YEAR_2027 - HOUR):
        timed[1].now = moment
        assert await server_time(line) == pytest.approx(moment, abs=20)


async def test_the_clock_can_go_on(line: Line, timed: Timed) -> None:
    timed[1].run(ahead=-HOUR)
    assert await server_time(line) == pytest.approx(time.time() * 1000 - HOUR, abs=2000)


async def test_a_step_ahead_ends_leases_early_and_loses_nothing(line: Line, timed: Timed) -> None:
    await line.enqueue("a")
    [first] = await line.fetch(worker="first")
    timed[1].now += HOUR
    assert (await line.broker.reap()).given_back == 1
    [second] = await line.fetch(worker="second")
    assert second.attempt == 2
    assert not await line.settle(first, DONE), "its lease has gone to another"
    assert await line.settle(second, DONE)


async def test_a_beat_before_the_reaper_saves_what_a_step_has_ended(line: Line, timed: Timed) -> None:
    await line.enqueue("a")
    [held] = await line.fetch()
    timed[1].now += HOUR
    assert (await line.beat(held)).lost == []
    assert await line.broker.reap() == Reaped(0, 0, 0)


async def test_a_step_back_stops_no_lease_from_ending(line: Line, timed: Timed) -> None:
    """Half as fast until the hour is caught up with: a worker that died is found after two leases, not after an hour."""
    await line.enqueue("a", "b")
    await line.fetch(1)
    timed[1].now -= HOUR
    await line.fetch(1)
    timed[1].now += round(LEASE * 1900)
    assert (await line.broker.reap()).given_back == 0
    timed[1].now += round(LEASE * 200)
    assert (await line.broker.reap()).given_back == 2


async def test_a_step_back_delays_no_task_for_long(line: Line, timed: Timed) -> None:
    await line.enqueue("later", delay=10)
    timed[1].now -= HOUR
    await line.clock()
    timed[1].now += 19_000
    assert await line.order() == []
    timed[1].now += 2_000
    assert await line.order() == ["later"]


async def test_the_order_outlives_steps_in_both_directions(line: Line, timed: Timed) -> None:
    names = [f"{number}" for number in range(6)]
    for name, step in zip(names, (0, HOUR, -2 * HOUR, 5 * HOUR, -HOUR, -HOUR), strict=True):
        timed[1].now += step
        await line.enqueue(name)
    assert await line.order() == names
