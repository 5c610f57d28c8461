"""Every log line that a run causes says which task it belongs to: also those of libraries, and of threads."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

from stoker import Context, Depends, Stoker
from stoker.app.middleware import RunNext
from tests.stories.working import working

library = logging.getLogger("some.library")


def told(log: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["logger"] == "some.library"]


async def test_lines_of_libraries_carry_the_tasks_ids(app: Stoker, log: io.StringIO) -> None:
    async def get_session() -> AsyncIterator[str]:
        library.info("opened")
        yield "session"
        library.info("closed")

    @app.middleware("run")
    async def around(ctx: Context, call_next: RunNext) -> Any:
        library.info("around")
        return await call_next(ctx)

    @app.task()
    async def ship(db: Annotated[str, Depends(get_session)]) -> None:
        await asyncio.create_task(helper())

    async def helper() -> None:
        library.info("a task of its own", extra={"boxes": 3})

    handle = await ship.enqueue()
    async with working(app):
        await handle.result(timeout=5)
    lines = told(log)
    assert [line["message"] for line in lines] == ["around", "opened", "a task of its own", "closed"]
    ids = {"task_id": handle.id, "task": "ship", "queue": "default", "attempt": 1}
    assert all(ids.items() <= line.items() for line in lines)
    assert lines[2]["boxes"] == 3


async def test_lines_of_threads_carry_them_too(app: Stoker, log: io.StringIO) -> None:
    @app.task()
    def ship() -> None:
        library.info("in a thread")

    handle = await ship.enqueue()
    async with working(app):
        await handle.result(timeout=5)
    assert [line["task_id"] for line in told(log)] == [handle.id]


async def test_log_lines_of_concurrent_tasks_carry_their_ids(app: Stoker, log: io.StringIO) -> None:
    meeting = asyncio.Barrier(3)

    @app.task()
    async def ship(number: int) -> None:
        await meeting.wait()
        library.info("number", extra={"number": number})

    handles = [await ship.enqueue(number) for number in range(3)]
    async with working(app):
        for handle in handles:
            await handle.result(timeout=5)
    assert {line["number"]: line["task_id"] for line in told(log)} == {n: handle.id for n, handle in enumerate(handles)}


async def test_lines_outside_of_any_run_carry_none(app: Stoker, log: io.StringIO) -> None:
    @app.task()
    async def ship() -> None: ...

    async with working(app):
        await (await ship.enqueue()).result(timeout=5)
        library.info("meanwhile")
    assert "task_id" not in told(log)[0]
