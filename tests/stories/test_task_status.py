"""What can be seen of a task's life."""

import asyncio
import math
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from stoker import Concurrency, Context, Invalid, Stoker
from stoker.rules.history import Event, What
from stoker.rules.states import TaskState
from stoker.rules.why import Cause
from tests.stories.working import AT_ONCE, working
from tests.waiting import until


async def test_a_task_says_why_it_waits(app: Stoker) -> None:
    @app.task()
    async def greet(name: str) -> str:
        return f"hello {name}"

    handle = await greet.enqueue("ada")
    explanation = await handle.explain()
    assert explanation.reasons[0].cause is Cause.NO_WORKERS
    assert explanation.text == "queue default has no live worker"

    async with working(app):
        await handle.result(timeout=5)
    assert (await handle.explain()).text == "it has succeeded"


async def test_a_task_with_an_unknown_name_says_so(app: Stoker) -> None:
    """The image is older than the code that enqueues: the usual reason why a task never runs."""

    @app.task(name="brand_new")
    async def new() -> None: ...

    handle = await new.options(delay=60).enqueue()
    old = Stoker("shop", redis=app.redis_url)

    @old.task()
    async def known_of_old() -> None: ...

    async with working(old):

        async def told() -> bool:
            return any(
                "no live worker knows a task named 'brand_new'" in reason.text for reason in (await handle.explain()).reasons
            )

        await until(told)


async def test_a_task_says_who_is_in_its_way(app: Stoker) -> None:
    go = asyncio.Event()

    @app.task(concurrency=Concurrency("printer"))
    async def print_out(_page: int) -> None:
        await go.wait()

    first, second = await print_out.enqueue(1), await print_out.enqueue(2)
    async with working(app):

        async def parked() -> bool:
            return (await second.explain()).reasons[0].cause is Cause.PARKED

        await until(parked)
        assert first.id in (await second.explain()).text
        go.set()
        await second.result(timeout=5)


async def test_earlier_failures_are_kept_although_it_succeeds(app: Stoker) -> None:
    runs = 0

    @app.task(retry=AT_ONCE)
    async def flaky() -> int:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ConnectionError(f"no answer {runs}")
        return runs

    handle = await flaky.enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == 3
    status = await handle.status()
    assert status.state is TaskState.SUCCEEDED
    assert [(past.attempt, past.type, past.message) for past in status.history] == [
        (1, "ConnectionError", "no answer 1"),
        (2, "ConnectionError", "no answer 2"),
    ]


async def test_who_watches_hears_the_whole_story(app: Stoker) -> None:
    @app.task(retry=AT_ONCE)
    async def flaky(fail: bool) -> None:
        if fail:
            raise ValueError("no")

    heard: list[Event] = []
    hear = heard.append

    async def listen() -> None:
        async for event in app.client.inspector.events("default"):
            hear(event)

    listening = asyncio.create_task(listen())

    async def heard_of_it() -> bool:
        await flaky.options(id="hello").enqueue(fail=False)
        return bool(heard)

    async with working(app):
        await until(heard_of_it)
        await flaky.options(id="doomed", retry=1).enqueue(fail=True)
        await until(lambda: any(event.what is What.DEAD for event in heard))
        listening.cancel()
        await asyncio.wait([listening], timeout=5)
    assert listening.cancelled()
    mine = [event for event in heard if event.id == "doomed" and event.what is not What.PROMOTED]
    assert [event.what for event in mine] == [What.ENQUEUED, What.STARTED, What.RETRIED, What.STARTED, What.DEAD]
    assert {event.task for event in mine} == {"flaky"}


@pytest.mark.parametrize("plain", [False, True], ids=["on the loop", "in a thread"])
async def test_a_task_tells_how_far_it_is_and_what_it_does(app: Stoker, plain: bool) -> None:
    go = threading.Event()

    def begin(ctx: Context) -> None:
        for done in range(1, 4):
            ctx.progress(done, 10, note="pages")
            ctx.log.info("page %d is done", done)

    if plain:

        @app.task(name="print_book")
        def print_book(ctx: Context) -> None:
            begin(ctx)
            go.wait(10)
            ctx.log.warning("out of paper")
    else:

        @app.task(name="print_book")
        async def print_book_here(ctx: Context) -> None:
            begin(ctx)
            await ctx.progress(3, 10, note="pages")
            await asyncio.to_thread(go.wait, 10)
            ctx.log.warning("out of paper")

    handle = await app.tasks["print_book"].enqueue()
    async with working(app):

        async def told() -> bool:
            return (await handle.status()).progress is not None

        await until(told)
        status = await handle.status()
        assert status.progress is not None
        assert (status.progress.done, status.progress.total, status.progress.note) == (3, 10, "pages")
        go.set()
        await handle.result(timeout=5)
    status = await handle.status()
    assert status.progress is None, "it has ended: the result says more"
    assert [(line.level, line.text) for line in status.log] == [
        ("info", "page 1 is done"),
        ("info", "page 2 is done"),
        ("info", "page 3 is done"),
        ("warning", "out of paper"),
    ]


async def test_progress_is_a_number(app: Stoker) -> None:
    """Or nobody could read the task's story any more."""
    refused: list[str] = []

    @app.task()
    async def print_book(ctx: Context) -> None:
        for amount in (math.nan, math.inf, "half", None, 10**400, Decimal("NaN")):
            for pair in ((amount, 10), (1, amount)):
                try:
                    ctx.progress(*pair)  # type: ignore[arg-type]
                except Invalid as error:
                    refused.append(str(error))
        ctx.progress(Fraction(1, 2), Decimal("2.5"), note=7)  # type: ignore[arg-type]
        await asyncio.sleep(3600)

    handle = await print_book.enqueue()
    async with working(app, drain_timeout=0.1):

        async def told() -> Any:
            return (await handle.status()).progress

        progress = await until(told)
        assert (progress.done, progress.total, progress.note) == (0.5, 2.5, "7")
    assert len(refused) == 11, "a total may be unknown"
    assert refused[0] == "bad progress nan: use finite numbers"


async def test_what_attempts_logged_stays_with_the_task(app: Stoker) -> None:
    @app.task(retry=AT_ONCE)
    async def flaky(ctx: Context) -> None:
        ctx.log.info("trying")
        if ctx.attempt == 1:
            raise ConnectionError("no answer")

    handle = await flaky.enqueue()
    async with working(app):
        await handle.result(timeout=5)
    assert [(line.attempt, line.text) for line in (await handle.status()).log] == [(1, "trying"), (2, "trying")]


async def test_a_task_whose_lease_went_to_another_is_given_up(app: Stoker) -> None:
    """Nothing that it writes would count: it hears of that with its worker's next heartbeat."""
    runs: list[str] = []

    @app.task()
    async def bake(ctx: Context) -> int:
        if ctx.attempt == 1:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                runs.append("given up")
                raise
        return ctx.attempt

    handle = await bake.enqueue()
    async with working(app, name="oven"):

        async def running() -> bool:
            return (await handle.status()).state is TaskState.RUNNING

        await until(running)
        assert (await app.client.inspector.reap_worker("default", "oven", 3)).given_back == 1
        assert await handle.result(timeout=10) == 2
        await until(lambda: runs == ["given up"])
