"""Tasks that are worth nothing after a while, and the headers that travel with them."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from stoker import Context, Invalid, Retry, Snooze, Stoker, TaskFailed
from stoker.rules.retry import Jitter
from stoker.rules.states import TaskState
from tests.stories.working import working
from tests.waiting import until


async def test_what_has_not_begun_in_time_never_runs(app: Stoker) -> None:
    """It ends as cancelled, by Redis' own clock, and is no dead letter: whoever sent it said so beforehand."""
    runs: list[str] = []

    @app.task()
    async def greet(name: str) -> None:
        runs.append(name)

    late = await greet.options(expires=0.05).enqueue("late")
    gone = await greet.options(expires=datetime.now(UTC) - timedelta(seconds=1)).enqueue("gone")
    status = await late.status()
    await until(lambda: time.time() * 1000 > (status.expires or 0))
    soon = await greet.options(expires=30).enqueue("soon")
    async with working(app):
        await soon.result(timeout=5)
        for handle in (late, gone):
            with pytest.raises(TaskFailed, match="expired before it could run"):
                await handle.result(timeout=5)
    assert runs == ["soon"]
    status = await late.status()
    assert (status.state, status.expired, status.attempts) == (TaskState.CANCELLED, True, 0)
    [stats] = await app.client.inspector.stats(["default"])
    assert (stats.dead, stats.totals.failed) == (0, 0)


async def test_no_retry_begins_after_it_has_expired(app: Stoker) -> None:
    runs = []

    @app.task(retry=Retry(max_retries=50, initial_delay=0.1, multiplier=1, jitter=Jitter.NONE))
    async def flaky() -> None:
        runs.append(1)
        raise ConnectionError("no")

    handle = await flaky.options(expires=0.35).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="expired"):
            await handle.result(timeout=5)
    assert 1 <= len(runs) <= 4


async def test_a_task_that_snoozes_again_and_again_ends_at_its_expiry(app: Stoker) -> None:
    @app.task()
    async def wait() -> None:
        raise Snooze(0.05)

    handle = await wait.options(expires=0.3).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="expired"):
            await handle.result(timeout=5)


async def test_one_that_was_cancelled_before_has_not_expired(app: Stoker) -> None:
    @app.task()
    async def greet() -> None: ...

    handle = await greet.options(expires=60).enqueue()
    await handle.cancel()
    status = await handle.status()
    assert (status.state, status.expired) == (TaskState.CANCELLED, False)


async def test_a_task_that_runs_when_it_expires_runs_on(app: Stoker) -> None:
    @app.task()
    async def greet() -> str:
        await asyncio.sleep(0.3)
        return "done"

    async with working(app):
        handle = await greet.options(expires=0.2).enqueue()
        assert await handle.result(timeout=5) == "done"


@pytest.mark.parametrize(
    "options",
    [
        {"expires": 5, "delay": 5},
        {"expires": -1},
        {"expires": datetime(2030, 1, 1, tzinfo=UTC), "run_at": datetime(2031, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
async def test_an_expiry_that_makes_no_sense_is_refused(app: Stoker, options: dict[str, object]) -> None:
    @app.task()
    async def greet() -> None: ...

    with pytest.raises(Invalid):
        await greet.options(**options).enqueue()  # type: ignore[arg-type]


async def test_headers_travel_with_the_task(app: Stoker) -> None:
    seen: list[dict[str, str]] = []

    @app.task(retry=Retry(1, 0.01, 1))
    async def greet(ctx: Context) -> None:
        seen.append(dict(ctx.headers))
        if ctx.attempt == 1:
            raise ConnectionError

    handle = await greet.options(headers={"tenant": "acme", "sprache": "Österreichisch"}).enqueue()
    async with working(app):
        await handle.result(timeout=5)
    assert seen == [{"tenant": "acme", "sprache": "Österreichisch"}] * 2
    assert (await handle.status()).headers["tenant"] == "acme"


@pytest.mark.parametrize(
    "headers",
    [{str(n): "" for n in range(33)}, {"a": "x" * 8192}, {"a": 1}, {"": "a"}, {"a": "\ud800"}],
    ids=["33", "8 KiB", "1", "''", "d8"],
)
async def test_headers_are_few_and_short(app: Stoker, headers: dict[str, str]) -> None:
    @app.task()
    async def greet() -> None: ...

    with pytest.raises(Invalid, match="headers"):
        await greet.options(headers=headers).enqueue()
