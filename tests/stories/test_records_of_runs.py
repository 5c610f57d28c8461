"""What a queue remembers of its runs: by the minute, by version, and how many started in time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stoker import Dead, Stoker
from stoker.queue.reads.inspector import Inspector
from tests.stories.working import working
from tests.waiting import until

QUEUE = "default"


@pytest.fixture
async def inspector(app: Stoker) -> AsyncIterator[Inspector]:
    """One that outlives the worker's connections."""
    opened = Inspector.at(app.redis_url, app.namespace)
    yield opened
    await opened.close()


async def test_a_worker_that_exits_leaves_its_counts(app: Stoker, inspector: Inspector) -> None:
    """A worker that was started from zero for a few tasks may live shorter than a minute."""

    @app.task()
    async def send(number: int) -> int:
        if number == 3:
            raise Dead("no")
        return number

    async with working(app):
        handles = [await send.enqueue(number) for number in range(4)]
        await asyncio.wait([asyncio.create_task(handle.result(timeout=10)) for handle in handles])
    [*_, minute] = await inspector.minutes(QUEUE)
    runs = minute.tasks["send"]
    assert (runs.started, runs.succeeded, runs.dead, runs.wait.count, runs.run.count) == (4, 3, 1, 4, 4)
    assert 0 < (runs.run.quantile(0.99) or 0) < 5
    [version] = await inspector.versions(QUEUE)
    assert (version.runs.succeeded, version.first_seen <= version.last_seen) == (3, True)
    assert (await inspector.slo(QUEUE)).max_wait is None


async def test_runs_that_start_in_time_are_counted(app: Stoker, inspector: Inspector) -> None:
    @app.task()
    async def send() -> None: ...

    await inspector.set_max_wait(QUEUE, 60)
    async with working(app):
        await (await send.enqueue()).result(timeout=10)
        await (await send.enqueue()).result(timeout=10)
    slo = await inspector.slo(QUEUE)
    assert (slo.max_wait, slo.started, slo.in_time) == (60, 2, 2)


async def test_a_worker_announces_what_its_tasks_take(app: Stoker, inspector: Inspector) -> None:
    @app.task()
    async def send(to: str, times: int = 1) -> None: ...

    async def schemas() -> dict[str, Any]:
        return {task: schema for announced in await inspector.announcements(QUEUE) for task, schema in announced.schemas.items()}

    async def is_known(task: str) -> bool:
        return task in await schemas()

    async with working(app, partitions=2, template="v1"):
        await until(lambda: is_known("send"))
        [announced] = await inspector.announcements(QUEUE)
        assert (announced.template, announced.versions, announced.left_out) == ("v1", {"send": 0}, 0)
        assert announced.schemas["send"]["required"] == ["to"]

        @app.task()
        async def declared_later(order: int) -> None: ...

        await until(lambda: is_known("declared_later"))


async def test_the_partitions_of_a_queue_share_their_records(app: Stoker, inspector: Inspector) -> None:
    @app.task()
    async def send() -> None: ...

    async with working(app, partitions=3):
        for handle in [await send.enqueue() for _ in range(20)]:
            await handle.result(timeout=10)
    assert sum(minute.all.succeeded for minute in await inspector.minutes(QUEUE)) == 20
    assert await inspector.minutes(f"{QUEUE}:1") == await inspector.minutes(QUEUE)
