"""What a worker survives: its own bugs, and tasks that do what no task should."""

import asyncio
import logging
from typing import Any

import pytest
from working import working

from stoker import Retry, Stoker, TaskFailed
from stoker.queue.broker import Broker, Turn
from stoker.rules.states import State


async def test_a_bug_in_a_turn_loses_no_outcome(
    app: Stoker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Outcomes that a turn did not deliver go with the next one; else their leases would be renewed for ever."""
    turn, failures = Broker.turn, iter([ZeroDivisionError("planted")])

    async def faulty(broker: Broker, settlements: Any, *arguments: Any, **options: Any) -> Turn:
        if settlements:
            for error in failures:
                raise error
        return await turn(broker, settlements, *arguments, **options)

    @app.task()
    async def ship() -> str:
        return "shipped"

    monkeypatch.setattr(Broker, "turn", faulty)
    handle = await ship.enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == "shipped"
        assert await (await ship.enqueue()).result(timeout=5) == "shipped"
    status = await handle.status()
    assert (status.state, status.attempts, status.losses) == (State.SUCCEEDED, 0, 0)
    assert [record.exc_info[0] for record in caplog.records if record.levelno == logging.CRITICAL] == [ZeroDivisionError]


async def test_a_task_in_a_thread_may_raise_anything(app: Stoker) -> None:
    """What ends a program or a future elsewhere is one task's failure here."""

    @app.task()
    def crash(kind: str) -> None:
        raise EXITS[kind]

    await crashes(app, crash)


async def test_an_async_task_may_raise_anything(app: Stoker) -> None:
    @app.task()
    async def crash(kind: str) -> None:
        raise EXITS[kind]

    await crashes(app, crash)


EXITS = {error.__name__: error for error in (SystemExit, KeyboardInterrupt, StopIteration, GeneratorExit, asyncio.CancelledError)}


async def crashes(app: Stoker, crash: Any) -> None:
    async with working(app, retry=Retry(max_retries=0)):
        for kind in EXITS:
            with pytest.raises(TaskFailed, match=kind):
                await (await crash.enqueue(kind)).result(timeout=5)
