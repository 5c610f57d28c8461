"""The server's clock, really moved: by hours, ahead and back. No step ends a lease or prolongs one, and no moment is spoilt."""

import time
from collections.abc import AsyncIterator

import pytest

from stoker.queue.reaping import Reaped
from stoker.rules.admission import Admission
from stoker.rules.settle import Retry
from stoker.rules.unique import Claim
from tests.engine.line import DONE, FAILURE, LEASE, Line, message, now, open_line
from tests.proof.model_time import DOUBT, GAP
from tests.proof.movable import NEW_YEAR_2027, MovableClock
from tests.redis_servers import Server

SECOND, HOUR = 1000, 3600_000
Timed = tuple[Server, MovableClock]


@pytest.fixture
async def line(timed: Timed) -> AsyncIterator[Line]:
    async with open_line(timed[0].url) as opened:
        yield opened


async def server_time(line: Line) -> float:
    seconds, microseconds = await now(line.redis.time())
    return float(seconds * 1000 + microseconds / 1000)


async def passes(line: Line, clock: MovableClock, ms: float) -> None:
    """So much time passes, in which somebody calls every second."""
    end = clock.now + round(ms)
    while clock.now < end:
        await line.clock()
        clock.now = min(clock.now + GAP, end)
    await line.clock()


async def an_hour_ahead_for_a_moment(line: Line, clock: MovableClock) -> None:
    clock.now += HOUR
    await line.clock()
    clock.now -= HOUR


async def test_the_clock_is_where_it_was_put(line: Line, timed: Timed) -> None:
    for moment in (NEW_YEAR_2027, NEW_YEAR_2027 + HOUR, NEW_YEAR_2027 - HOUR):
        timed[1].now = moment
        assert await server_time(line) == pytest.approx(moment, abs=20)


async def test_the_clock_can_go_on(line: Line, timed: Timed) -> None:
    timed[1].run(ahead=-HOUR)
    assert await server_time(line) == pytest.approx(time.time() * 1000 - HOUR, abs=2000)


@pytest.mark.parametrize("steps", [(HOUR,), (-HOUR,), (HOUR, -HOUR), (-HOUR, HOUR), (HOUR, HOUR, -HOUR)])
async def test_no_step_ends_a_lease_that_is_renewed(line: Line, timed: Timed, steps: tuple[int, ...]) -> None:
    """Every third of it, for two minutes after each step."""
    await line.enqueue("a")
    [held] = await line.fetch()
    for step in steps:
        timed[1].now += step
        for _ in range(12):
            assert await line.broker.reap() == Reaped(0, 0, 0)
            assert (await line.beat(held)).lost == []
            await passes(line, timed[1], LEASE * SECOND / 3)
    assert await line.settle(held, DONE)


@pytest.mark.parametrize("step", [-HOUR, 0])
async def test_a_lease_lasts_as_long_as_ever(line: Line, timed: Timed, step: int) -> None:
    """A worker that died is found after a lease, before and after the hour."""
    await line.enqueue("a", "b")
    await line.fetch(1)
    timed[1].now += step
    await line.fetch(1)
    await passes(line, timed[1], LEASE * SECOND - 100)
    assert (await line.broker.reap()).given_back == 0
    await passes(line, timed[1], 200)
    assert (await line.broker.reap()).given_back == 2


async def test_an_hour_ahead_ends_a_lease_that_nobody_renews_no_later(line: Line, timed: Timed) -> None:
    """It may have been an hour in which nobody called: after fifteen seconds with calls it is taken for that."""
    await line.enqueue("a")
    await line.fetch()
    await line.clock()
    timed[1].now += HOUR
    await passes(line, timed[1], DOUBT - 3 * GAP)
    assert (await line.broker.reap()).given_back == 0
    await passes(line, timed[1], 4 * GAP)
    assert (await line.broker.reap()).given_back == 1


async def test_what_a_wrong_hour_leased_ends_in_time(line: Line, timed: Timed) -> None:
    await line.enqueue("a")
    timed[1].now += HOUR
    await line.fetch()
    timed[1].now -= HOUR
    await passes(line, timed[1], LEASE * SECOND + 100)
    assert (await line.broker.reap()).given_back == 1


async def test_a_delay_is_not_prolonged_by_a_step_back(line: Line, timed: Timed) -> None:
    await line.enqueue("retried")
    [held] = await line.fetch()
    await line.enqueue("delayed", delay=10)
    await line.settle(held, Retry(10, FAILURE))
    timed[1].now -= HOUR
    await passes(line, timed[1], 9 * SECOND)
    assert await line.order() == []
    await passes(line, timed[1], 2 * SECOND)
    assert sorted(await line.order()) == ["delayed", "retried"]


async def test_an_hour_ahead_for_a_moment_brings_nothing_forward(line: Line, timed: Timed) -> None:
    await line.enqueue("at", run_at=(timed[1].now + HOUR / 2) / 1000)
    await line.enqueue("after", delay=HOUR / 2 / 1000)
    timed[1].now += HOUR
    await line.stats()
    timed[1].now -= HOUR
    await passes(line, timed[1], 60 * SECOND)
    await line.enqueue("later", run_at=(timed[1].now + HOUR / 2) / 1000)
    assert await line.order() == []
    timed[1].now += HOUR // 2
    assert sorted(await line.order()) == ["after", "at", "later"]


async def test_a_worker_learns_the_real_time_and_compares_expiry_with_that(line: Line, timed: Timed) -> None:
    await an_hour_ahead_for_a_moment(line, timed[1])
    await line.enqueue("a")
    [taken] = await line.fetch()
    assert taken.taken == pytest.approx(timed[1].now, abs=20)
    assert taken.waited < 1


async def test_a_claim_and_a_result_end_by_the_real_clock(line: Line, timed: Timed) -> None:
    await an_hour_ahead_for_a_moment(line, timed[1])
    claim = Claim("kind", "done", 60.0)
    await line.broker.enqueue([Admission(message("a"), claim=claim)])
    [held] = await line.fetch()
    timed[1].now += 61 * SECOND
    [second] = await line.broker.enqueue([Admission(message("b"), claim=claim)])
    assert second.id == "b"
    assert await line.settle(held, DONE)
    timed[1].now += HOUR - SECOND
    assert await line.broker.sweep() == (0, 0)
    timed[1].now += 2 * SECOND
    assert await line.broker.sweep() == (1, 0)


async def test_the_order_outlives_steps_in_both_directions(line: Line, timed: Timed) -> None:
    names = [f"{number}" for number in range(6)]
    for name, step in zip(names, (0, HOUR, -2 * HOUR, 5 * HOUR, -HOUR, -HOUR), strict=True):
        timed[1].now += step
        await line.enqueue(name)
    assert await line.order() == names
