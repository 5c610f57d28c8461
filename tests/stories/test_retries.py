"""What is tried again, how often and when: said of a task, of a queue, of one call, or by the task itself."""

import asyncio
import time

import pytest

from stoker import Context, Dead, Invalid, Retry, Snooze, Stoker, TaskFailed
from stoker.rules.retry import Jitter
from stoker.rules.states import TaskState
from tests.stories.working import AT_ONCE, working

QUICK = Retry(max_retries=3, initial_delay=0.01, multiplier=1, jitter=Jitter.NONE)


class CardRefused(Exception):
    pass


class CardStolen(CardRefused):
    pass


async def test_a_policy_may_be_for_some_failures_only(app: Stoker) -> None:
    runs = []

    @app.task(retry=Retry(3, 0.01, 1, jitter=Jitter.NONE, on=(ConnectionError, CardRefused), never=(CardStolen,)))
    async def pay(ctx: Context) -> None:
        runs.append(ctx.attempt)
        raise [ConnectionResetError("away"), CardRefused("no funds"), CardStolen("call the police")][ctx.attempt - 1]

    handle = await pay.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="CardStolen") as failed:
            await handle.result(timeout=5)
    assert runs == [1, 2, 3]
    assert (failed.value.type, failed.value.message) == ("CardStolen", "call the police")
    assert "in pay" in failed.value.traceback


async def test_what_the_policy_is_not_for_is_buried_at_once_from_a_thread_too(app: Stoker) -> None:
    runs = []

    @app.task(retry=Retry(on=(ConnectionError,)))
    def parse() -> None:
        runs.append(1)
        raise ValueError("not a number")

    handle = await parse.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="not a number"):
            await handle.result(timeout=5)
    assert runs == [1]


async def test_a_timeout_is_a_timeout_error_to_the_policy(app: Stoker) -> None:
    @app.task(timeout=0.05, retry=Retry(never=(TimeoutError,)))
    async def slow() -> None:
        await asyncio.sleep(30)

    handle = await slow.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            await handle.result(timeout=5)
    assert (await handle.status()).attempts == 1


async def test_a_call_may_bring_its_own_policy(app: Stoker) -> None:
    runs: list[float] = []

    @app.task(retry=Retry(max_retries=9, initial_delay=600))
    async def flaky() -> None:
        runs.append(time.monotonic())
        raise ConnectionError("no")

    handle = await flaky.options(retry=Retry(max_retries=2, initial_delay=0.1, multiplier=2, jitter=Jitter.NONE)).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed):
            await handle.result(timeout=5)
    assert len(runs) == 3
    assert runs[1] - runs[0] >= 0.1
    assert runs[2] - runs[1] >= 0.2


async def test_a_number_says_how_often_and_leaves_the_rest_as_it_is(app: Stoker) -> None:
    runs = []

    @app.task(retry=1)
    async def hopeless() -> None:
        runs.append(1)
        raise ConnectionError("no")

    handles = [await hopeless.enqueue(), await hopeless.options(retry=0).enqueue(), await hopeless.options(retry=None).enqueue()]
    async with working(app, retry=AT_ONCE):
        for handle in handles:
            with pytest.raises(TaskFailed):
                await handle.result(timeout=5)
    assert [(await handle.status()).attempts for handle in handles] == [2, 1, 2]


async def test_exception_classes_stay_where_the_task_is_declared(app: Stoker) -> None:
    """They cannot travel: the sender may not even know them. With a call's numbers, the declaration's classes hold."""

    @app.task(retry=Retry(never=(CardRefused,)))
    async def pay() -> None:
        raise CardRefused("no funds")

    with pytest.raises(Invalid, match="where the task is declared"):
        pay.options(retry=Retry(on=(CardRefused,))).prepare()
    handle = await pay.options(retry=QUICK).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed):
            await handle.result(timeout=5)
    assert (await handle.status()).attempts == 1


async def test_a_task_may_ask_for_another_attempt_and_say_when(app: Stoker) -> None:
    runs: list[float] = []

    @app.task(retry=Retry(max_retries=2, initial_delay=600))
    async def poll(ctx: Context) -> int:
        runs.append(time.monotonic())
        if ctx.attempt < 3:
            raise ctx.retry(delay=0.1, reason="the report is not ready")
        return ctx.attempt

    handle = await poll.enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == 3
    assert runs[1] - runs[0] >= 0.1


async def test_a_forgotten_raise_is_no_success(app: Stoker) -> None:
    @app.task(retry=1)
    async def poll(ctx: Context) -> int:
        if ctx.attempt == 1:
            ctx.retry(delay=0, reason="the report is not ready")
        return ctx.attempt

    handle = await poll.enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == 2


async def test_asked_for_once_too_often_it_is_buried_with_the_reason(app: Stoker) -> None:
    @app.task(retry=Retry(max_retries=1))
    async def poll(ctx: Context) -> None:
        try:
            raise ConnectionError("503")
        except ConnectionError as error:
            raise ctx.retry(delay=0, reason="the report is not ready") from error

    handle = await poll.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed) as failed:
            await handle.result(timeout=5)
    assert (failed.value.type, failed.value.message) == ("TryAgain", "the report is not ready")
    assert "503" in failed.value.traceback
    assert (await handle.status()).attempts == 2


async def test_a_task_may_say_how_many_attempts_it_gives_itself(app: Stoker) -> None:
    runs = []

    @app.task(retry=0)
    async def poll(ctx: Context) -> None:
        runs.append(ctx.attempt)
        raise ctx.retry(delay=0, max_retries=4)

    handle = await poll.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed):
            await handle.result(timeout=5)
    assert runs == [1, 2, 3, 4, 5]


async def test_a_snooze_is_no_failure(app: Stoker) -> None:
    runs: list[int] = []

    @app.task(retry=0)
    async def ship(ctx: Context) -> int:
        runs.append(ctx.attempt)
        if len(runs) < 4:
            raise Snooze(0.05, "the shop is closed")
        return len(runs)

    handle = await ship.enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == 4
    assert runs == [1, 1, 1, 1]
    [stats] = await app.client.inspector.stats(["default"])
    assert stats.totals.failed == 0


async def test_a_thread_may_say_all_of_it_too(app: Stoker) -> None:
    runs: list[int] = []

    @app.task(retry=AT_ONCE)
    def ship(ctx: Context) -> None:
        runs.append(ctx.attempt)
        if len(runs) == 1:
            raise Snooze(0.01)
        if len(runs) == 2:
            raise ctx.retry(delay=0.01)
        raise Dead("no such address")

    handle = await ship.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="no such address"):
            await handle.result(timeout=5)
    assert runs == [1, 1, 2]
    assert (await handle.status()).state is TaskState.DEAD


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "60"])
def test_a_snooze_has_an_end(seconds: float) -> None:
    with pytest.raises(Invalid, match="number of seconds above 0"):
        Snooze(seconds)


def test_an_option_that_there_is_not_is_refused_as_a_parameter_would_be(app: Stoker) -> None:
    @app.task()
    async def ship() -> None: ...

    with pytest.raises(TypeError, match="unknown option max_retries"):
        ship.options(max_retries=3)  # type: ignore[call-arg]
