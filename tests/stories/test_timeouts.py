"""Time limits: a soft one that asks, a hard one that ends; and what a thread may know of them."""

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from stoker import Context, Invalid, Retry, SoftTimeout, Stoker, TaskFailed
from stoker.rules.states import TaskState
from tests.stories.working import working
from tests.waiting import until


async def test_a_soft_timeout_lets_the_task_tidy_up_and_return(app: Stoker) -> None:
    @app.task(soft_timeout=0.05, timeout=20)
    async def crawl() -> list[str]:
        found = ["a"]
        try:
            await asyncio.sleep(30)
        except SoftTimeout:
            await asyncio.sleep(0.01)  # it may wait again: it is asked once
            found.append("the rest next time")
        return found

    handle = await crawl.enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == ["a", "the rest next time"]


async def test_a_soft_timeout_that_passes_is_a_failure_like_others(app: Stoker) -> None:
    @app.task(soft_timeout=0.05, retry=Retry(never=(SoftTimeout,)))
    async def crawl() -> None:
        await asyncio.gather(asyncio.sleep(30), asyncio.sleep(30))

    handle = await crawl.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match=r"did not end within 0\.05 s") as failed:
            await handle.result(timeout=5)
    assert failed.value.type == "SoftTimeout"


async def test_a_task_that_ignores_its_soft_timeout_is_ended(app: Stoker) -> None:
    asked = []

    @app.task(soft_timeout=0.05, timeout=0.2, retry=0)
    async def stubborn() -> None:
        try:
            await asyncio.sleep(30)
        except SoftTimeout:
            asked.append(1)
            await asyncio.sleep(30)

    handle = await stubborn.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match=r"TaskTimeout: did not end within 0\.2 s"):
            await handle.result(timeout=5)
    assert asked == [1]


async def test_a_task_that_returns_after_its_timeout_has_failed(app: Stoker) -> None:
    """It has caught its cancellation, perhaps in a library: it did not end in time all the same."""

    @app.task(timeout=0.1, retry=0)
    async def stubborn() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return "done"

    handle = await stubborn.enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match=r"TaskTimeout: did not end within 0\.1 s"):
            await handle.result(timeout=5)


async def test_a_soft_timeout_leaves_the_tasks_own_timeouts_and_groups_alone(app: Stoker) -> None:
    @app.task(soft_timeout=0.15, timeout=20)
    async def crawl() -> list[str]:
        seen = []
        try:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(30)
        except TimeoutError:
            seen.append("own timeout")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(30))
        except SoftTimeout:
            seen.append("soft timeout")
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        task = asyncio.current_task()
        return [*seen, str(task and task.cancelling())]

    handle = await crawl.enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == ["own timeout", "soft timeout", "0"]


async def test_a_cancellation_is_no_soft_timeout(app: Stoker) -> None:
    started = asyncio.Event()

    @app.task(soft_timeout=20)
    async def crawl() -> None:
        started.set()
        await asyncio.sleep(30)

    handle = await crawl.enqueue()
    async with working(app):
        await started.wait()
        await handle.cancel()
        await until(lambda: _is(handle, TaskState.CANCELLED))


async def _is(handle, state: TaskState) -> bool:  # type: ignore[no-untyped-def]
    return (await handle.status()).state is state


async def test_a_call_may_bring_its_own_limits(app: Stoker) -> None:
    @app.task()
    async def crawl(ctx: Context) -> float:
        return ctx.time_left()

    async with working(app, task_timeout=600):
        assert 500 < await (await crawl.enqueue()).result(timeout=5) <= 600
        assert 8 < await (await crawl.options(soft_timeout=10).enqueue()).result(timeout=5) <= 10
        assert 18 < await (await crawl.options(timeout=20).enqueue()).result(timeout=5) <= 20


async def test_a_thread_sees_that_its_time_is_over(app: Stoker) -> None:
    """Nobody can stop a thread, so it asks, and its outcome counts."""

    @app.task(soft_timeout=0.1)
    def count(ctx: Context) -> int:
        n = 0
        while not ctx.cancelled:
            time.sleep(0.005)
            n += 1
        return n

    handle = await count.enqueue()
    async with working(app):
        assert 1 <= await handle.result(timeout=5) <= 40


async def test_a_thread_sees_that_it_was_cancelled(app: Stoker) -> None:
    started, told = threading.Event(), threading.Event()

    @app.task()
    def count(ctx: Context) -> None:
        started.set()
        while not ctx.cancelled:
            time.sleep(0.005)
        told.set()

    handle = await count.enqueue()
    async with working(app):
        await until(started.is_set)
        await handle.cancel()
        await until(told.is_set)
        await until(lambda: _is(handle, TaskState.CANCELLED))


def test_a_soft_timeout_comes_first(app: Stoker) -> None:
    with pytest.raises(Invalid, match="would come too late"):
        app.task(soft_timeout=30, timeout=30)
