"""Redis' clock is set wrong, by an hour, and right again: what runs goes on, and what waits for a moment waits for that moment."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis

from stoker import Handle, Retry, Stoker
from stoker.manifest.policies import Lease
from stoker.rules.retry import Jitter
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from tests.proof.movable import MovableClock, movable_server
from tests.redis_servers import Server
from tests.stories.working import working
from tests.waiting import until

HOUR = 3600_000
LEASE = Lease(Duration(4))
Timed = tuple[Server, MovableClock]


@pytest.fixture
def timed() -> Iterator[Timed]:
    """A server whose clock runs, and can be set wrong."""
    with movable_server(durable=False) as (server, clock):
        clock.run()
        yield server, clock


def set_clock(timed: Timed, ahead: int = 0) -> None:
    """Wait until scripts go by it too: the server reads its clock for them from time to time only."""
    server, clock = timed
    clock.run(ahead)
    with redis.Redis.from_url(server.url) as client:
        while abs(int(client.eval("return redis.call('TIME')[1]", 0)) * 1000 - time.time() * 1000 - ahead) > HOUR / 2:
            time.sleep(0.001)


@pytest.mark.parametrize("wrong_by", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_running_task_keeps_its_lease(timed: Timed, opened: Callable[[str], Stoker], wrong_by: int) -> None:
    server, _ = timed
    app, runs, may_end = opened(server.url), [], asyncio.Event()

    @app.task()
    async def long() -> None:
        runs.append(1)
        await may_end.wait()

    handle = await long.enqueue()

    async def renewed(times: int) -> None:
        for _ in range(times):
            end = (await handle.status()).at or 0
            await until(partial(_lease_ends_after, handle, end))

    async with working(app, lease=LEASE):
        await until(lambda: bool(runs))
        set_clock(timed, wrong_by)
        await renewed(4)  # longer than a lease
        set_clock(timed)
        await renewed(4)
        may_end.set()
        await handle.result(timeout=10)
    [stats] = await app.client.inspector.stats(["default"])
    assert (len(runs), stats.totals.lost) == (1, 0)


async def _lease_ends_after(handle: Handle[Any], end: float) -> bool:
    return ((await handle.status()).at or 0) > end


async def test_a_wrong_answer_of_a_time_server_spoils_no_moment(timed: Timed, opened: Callable[[str], Stoker]) -> None:
    """An hour ahead for one call: what is enqueued afterwards neither expires unrun nor runs early."""
    server, _ = timed
    app, runs = opened(server.url), []

    @app.task()
    async def greet(name: str) -> None:
        runs.append(name)

    set_clock(timed, HOUR)
    await app.client.inspector.stats(["default"])
    await greet.enqueue("at once")
    set_clock(timed)
    in_time = await greet.options(expires=600).enqueue("in time")
    later = await greet.options(run_at=datetime.now(UTC) + timedelta(minutes=30)).enqueue("later")
    delayed = await greet.options(delay=1800).enqueue("delayed")
    async with working(app):
        await in_time.result(timeout=10)
        behind = await greet.enqueue("behind")
        await behind.result(timeout=10)
    assert runs == ["at once", "in time", "behind"], "first come, first served"
    for handle in (later, delayed):
        status = await handle.status()
        assert status.state is TaskState.SCHEDULED
        assert status.at == pytest.approx((time.time() + 1800) * 1000, abs=30_000)


async def test_a_retry_that_waits_is_not_put_off_when_the_clock_is_set_right(timed: Timed, opened: Callable[[str], Stoker]) -> None:
    """It was to wait for a second by a clock that was an hour ahead."""
    server, _ = timed
    app, runs = opened(server.url), []

    @app.task(retry=Retry(max_retries=1, initial_delay=1, multiplier=1, jitter=Jitter.NONE))
    async def flaky() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise ConnectionError("no")
        return "done"

    set_clock(timed, HOUR)
    handle = await flaky.enqueue()
    async with working(app):
        await until(lambda: _is(handle, TaskState.SCHEDULED))
        set_clock(timed)
        assert await handle.result(timeout=20) == "done"


async def _is(handle: Handle[Any], state: TaskState) -> bool:
    return (await handle.status()).state is state
