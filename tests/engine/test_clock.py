"""What elapses goes by Redis' clock made monotone: a server whose time steps back freezes nothing and reorders nothing."""

import time

import pytest

from tests.engine.line import DONE, LEASE, Line, now

pytestmark = pytest.mark.every_server

HOUR = 3600_000


async def server_was_ahead(line: Line, milliseconds: int) -> int:
    """As if the server's clock had been that far ahead until now, and then was set right. Returns the queue's time."""
    ahead = round(time.time() * 1000) + milliseconds
    await now(line.redis.hset(line.keys.meta, mapping={"logical": ahead, "real": ahead}))
    return ahead


async def test_time_does_not_go_back(line: Line) -> None:
    ahead = await server_was_ahead(line, HOUR)
    readings = [await line.clock() for _ in range(50)]
    assert readings == sorted(readings)
    assert readings[0] >= ahead


async def test_time_does_not_stand_still(line: Line) -> None:
    """It runs as the real one does, however often it is read: a busy queue reads it every millisecond."""
    ahead = await server_was_ahead(line, HOUR)
    started = time.monotonic()
    first = await line.clock()
    while time.monotonic() < started + 0.4:
        last = await line.clock()
    elapsed = (time.monotonic() - started) * 1000
    assert first - ahead <= 2
    assert elapsed * 0.8 <= last - first <= elapsed + 100


async def test_an_hour_that_returns_is_no_hour_that_passed(line: Line) -> None:
    """Back by an hour, and right again."""
    started = round(time.time() * 1000)
    await now(line.redis.hset(line.keys.meta, mapping={"logical": started, "real": started - HOUR}))
    assert await line.clock() == pytest.approx(time.time() * 1000, abs=2000)


async def test_a_forward_step_is_followed_at_once(line: Line) -> None:
    behind = round(time.time() * 1000) - HOUR
    await now(line.redis.hset(line.keys.meta, mapping={"logical": behind, "real": behind}))
    assert await line.clock() == pytest.approx(time.time() * 1000, abs=5000)


async def test_a_lease_taken_before_the_step_still_ends(line: Line) -> None:
    await line.enqueue("a")
    await server_was_ahead(line, HOUR)
    await line.fetch()
    await line.pass_time(LEASE - 5)
    assert (await line.broker.reap()).given_back == 0
    await line.pass_time(6)
    assert (await line.broker.reap()).given_back == 1


async def test_first_come_first_served_across_the_step(line: Line) -> None:
    await server_was_ahead(line, HOUR)
    await line.enqueue("before")
    await now(line.redis.hset(line.keys.meta, "real", round(time.time() * 1000)))
    await line.enqueue("after")
    assert await line.order() == ["before", "after"]


async def test_a_queue_that_lost_its_clock_still_keeps_the_order(line: Line) -> None:
    """A failover to a replica without the last writes: the arrival mark may be gone, the places are not."""
    await line.enqueue("a", "b")
    await now(line.redis.hdel(line.keys.meta, "logical", "real"))
    await line.enqueue("c")
    for delivery in await line.fetch():
        assert await line.settle(delivery, DONE)
    assert (await line.stats()).totals.succeeded == 3
