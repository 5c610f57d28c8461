"""Chains: each link is enqueued by the very step that records the success of the one before."""

import asyncio
from typing import Any

import pytest

from stoker import Context, Dead, Invalid, NotFound, Stoker, TaskFailed, Unique, chain, group
from stoker.queue.reads.inspector import Cancellation
from stoker.rules.states import TaskState
from tests.stories.working import working
from tests.waiting import until


async def test_each_link_takes_the_result_of_the_one_before(app: Stoker) -> None:
    @app.task()
    async def fetch(url: str) -> str:
        return f"<{url}>"

    @app.task()
    def parse(page: str, upper: bool = False) -> list[str]:
        return [page.upper() if upper else page]

    @app.task()
    async def store(words: list[str], *, bucket: str) -> str:
        return f"{bucket}: {', '.join(words)}"

    handle = await chain(fetch.prepare("a.org"), parse.piped(upper=True), store.piped(bucket="b")).enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == "b: <A.ORG>"
    assert len(handle.ids) == 3
    assert (await handle.status()).state is TaskState.SUCCEEDED


async def test_a_group_runs_side_by_side_and_its_join_once_with_all_results(app: Stoker) -> None:
    joins = []

    @app.task()
    async def square(n: int) -> int:
        return n * n

    @app.task()
    async def total(numbers: list[int], *, offset: int = 0) -> int:
        joins.append(numbers)
        return sum(numbers) + offset

    handle = await chain(group(*(square.prepare(n) for n in range(5))), total.piped(offset=100)).enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == 130
    assert joins == [[0, 1, 4, 9, 16]]


async def test_groups_in_chains_in_groups(app: Stoker) -> None:
    @app.task()
    async def numbers(count: int) -> int:
        return count

    @app.task()
    async def times(n: int, by: int) -> int:
        return n * by

    @app.task()
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task()
    async def flat(lists: list[list[int]]) -> list[int]:
        return [n for inner in lists for n in inner]

    by = group(times.piped(1), times.piped(2))
    handle = await chain(
        numbers.prepare(3), group(chain(by, total.piped()), chain(times.piped(10), by, total.piped())), total.piped()
    ).enqueue()
    nested = await chain(numbers.prepare(1), group(by, by), flat.piped(), total.piped()).enqueue()
    last = await chain(numbers.prepare(5), group(times.piped(1), chain(times.piped(2), times.piped(3)))).enqueue()
    empty = await chain(numbers.prepare(5), group(), total.piped()).enqueue()
    after = await chain(group(numbers.prepare(1), numbers.prepare(2)), group(total.piped(), total.piped())).enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == 9 + 90
        assert await nested.result(timeout=5) == 6
        assert await last.result(timeout=5) == [5, 30]
        assert await empty.result(timeout=5) == 0
        assert await after.result(timeout=5) == [3, 3]


async def test_a_running_task_sends_others_with_its_success_alone(app: Stoker) -> None:
    ran = []

    @app.task()
    async def visit(page: str, ctx: Context) -> None:
        ran.append((page, ctx.attempt))
        if page == "home":
            ids.append(ctx.enqueue(visit.prepare(f"a{ctx.attempt}")))
            ctx.enqueue(visit.options(priority=9).prepare("b"))
            if ctx.attempt < 3:
                raise ConnectionError("try again")

    ids: list[str] = []
    await visit.enqueue("home")
    async with working(app):
        await until(lambda: len(ran) == 5)
        await until(lambda: idle(app))
    assert ran[:3] == [("home", 1), ("home", 2), ("home", 3)]
    assert sorted(ran[3:]) == [("a3", 1), ("b", 1)], "what failed runs sent was never there"
    assert len(set(ids)) == 1, "every run would have sent it under the same id"


async def idle(app: Stoker) -> bool:
    [stats] = await app.client.inspector.stats(["default"])
    return stats.ready + stats.running + stats.scheduled == 0


async def test_a_task_may_send_thousands_and_whole_workflows(app: Stoker) -> None:
    @app.task()
    async def leaf(n: int) -> int:
        return n

    @app.task()
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task()
    async def plant(ctx: Context) -> str:
        for n in range(1500):
            ctx.enqueue(leaf.prepare(n))
        return ctx.enqueue(chain(group(*(leaf.prepare(n) for n in range(300))), total.piped()))

    handle = await plant.enqueue()
    async with working(app, concurrency=50):
        await handle.result(timeout=5)
        await until(lambda: all_done(app, 1 + 1500 + 300 + 1), within=20)


async def all_done(app: Stoker, count: int) -> bool:
    [stats] = await app.client.inspector.stats(["default"])
    return stats.totals.succeeded == count


async def test_a_dead_link_holds_its_chain_until_it_is_redriven(app: Stoker) -> None:
    broken = True

    @app.task()
    async def first() -> int:
        if broken:
            raise Dead("no flour")
        return 1

    @app.task()
    async def second(n: int) -> int:
        return n + 1

    handle = await chain(group(first.prepare(), second.prepare(1)), group(second.prepare(5))).enqueue()
    alone = await chain(first.prepare(), second.piped()).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="no flour"):
            await alone.result(timeout=5)
        with pytest.raises(TaskFailed, match="redrive"):
            await handle.result(timeout=5)
        assert [status.task for status in await handle.pending()] == ["first"]
        broken = False
        async for _ in app.client.inspector.redrive_all("default"):
            pass
        assert await alone.result(timeout=5) == 2
        assert await handle.result(timeout=5) == [6]


async def test_a_cancelled_workflow_goes_nowhere(app: Stoker) -> None:
    ran = []

    @app.task()
    async def step(n: int = 0) -> int:
        ran.append(n)
        return n

    waiting = await chain(step.options(delay=60).prepare(1), step.prepare(2), step.prepare(3)).enqueue()
    large = await chain(group(*(step.options(delay=60).prepare(n) for n in range(150))), step.prepare(4)).enqueue()
    for handle in (waiting, large):
        assert await handle.cancel() is Cancellation.CANCELLED
        with pytest.raises(TaskFailed, match="cancelled"):
            await handle.result(timeout=5)
    async with working(app):
        await (await step.enqueue()).result(timeout=5)
    assert ran == [0]
    assert await waiting.cancel() is Cancellation.CANCELLED


async def test_what_cannot_be_a_workflow_is_refused_at_once(app: Stoker) -> None:
    @app.task()
    async def step(n: int) -> int:
        return n

    @app.task(unique=Unique())
    async def only(n: int) -> int:
        return n

    for workflow, words in (
        (chain(step.prepare(1), only.piped()), "unique"),
        (chain(step.prepare(1), step.options(id="mine").piped()), "its own id or key"),
        (chain(step.piped(), step.piped()), "no result to take"),
        (chain(), "nothing to enqueue"),
        (group(*[step.prepare(1)] * 10_001), "at most 10000"),
    ):
        with pytest.raises(Invalid, match=words):
            await workflow.enqueue()
    with pytest.raises(Invalid, match="put it into a chain"):
        await app.enqueue_many([step.piped()])
    with pytest.raises(Invalid, match="no parameter left"):
        step.piped(n=1)


async def test_the_same_key_is_the_same_chain(app: Stoker) -> None:
    @app.task()
    async def step(n: int) -> int:
        return n + 1

    one = await chain(step.options(idempotency_key="today").prepare(1), step.piped()).enqueue()
    two = await chain(step.options(idempotency_key="today").prepare(1), step.piped()).enqueue()
    assert (one.duplicate, two.duplicate, one.ids == two.ids) == (False, True, True)
    async with working(app):
        assert await two.result(timeout=5) == 3


async def test_groups_without_a_task_have_their_results_at_once(app: Stoker) -> None:
    handle: Any = await group().enqueue()
    assert (await handle.result(), await handle.pending(), await handle.cancel(), handle.ids) == ([], [], "over", [])
    with pytest.raises(NotFound):
        await handle.status()
    nested: Any = group(group(), group())
    assert await (await nested.enqueue()).result() == [[], []]
    assert await asyncio.to_thread(lambda: group().enqueue_sync().result_sync()) == []
