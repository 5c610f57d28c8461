"""What a worker survives: its own bugs, and tasks that kill or block it."""

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from stoker import Retry, Stoker, TaskFailed
from stoker.queue.broker import Broker
from stoker.queue.records import Turn
from stoker.rules.states import TaskState
from stoker.worker.loop.watchdog import STUCK_AFTER, Watchdog
from tests.stories.working import worker_process, working
from tests.waiting import until


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
    assert (status.state, status.attempts, status.losses) == (TaskState.SUCCEEDED, 0, 0)
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


async def test_a_fork_in_a_task_is_recorded_once(app: Stoker) -> None:
    """The copy returns from the function too; it must not go on as a second worker on the same connections."""

    @app.task()
    async def split_here() -> bool:
        return os.fork() > 0

    @app.task()
    def split_in_a_thread() -> bool:
        return os.fork() > 0

    async with working(app):
        for task in (split_here, split_in_a_thread):
            for _ in range(3):
                assert await (await task.enqueue()).result(timeout=5) is True
    assert (await app.client.inspector.stats(["default"]))[0].totals.stale_settles == 0


async def test_an_event_loop_and_signals_in_a_thread_are_its_own(app: Stoker) -> None:
    @app.task()
    def nested() -> int:
        return asyncio.run(asyncio.sleep(0.01, 7))

    @app.task()
    def deaf() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    async with working(app, retry=Retry(max_retries=0)):
        assert await (await nested.enqueue()).result(timeout=5) == 7
        with pytest.raises(TaskFailed, match="signal only works in main thread"):
            await (await deaf.enqueue()).result(timeout=5)


async def test_a_task_that_kills_its_worker_is_buried_and_its_neighbours_are_not(redis_url: str, tmp_path: Path) -> None:
    """A process group brings a new worker each time; the leases of the dead one end, and only the culprit is lost three times."""
    from tests.stories.apps.bakery import app, collapse, where

    app.redis_url = redis_url
    culprit = await collapse.enqueue()
    neighbours = [await where.enqueue() for _ in range(20)]
    with worker_process(redis_url, tmp_path, "--processes", "2", "--max-lost", "2") as group:
        with pytest.raises(TaskFailed, match="lost"):
            await culprit.result(timeout=40)
        for handle in neighbours:
            await handle.result(timeout=10)
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0
    await app.close()


async def test_all_that_a_dead_worker_held_runs_again_at_once(redis_url: str, tmp_path: Path) -> None:
    """One loss is no evidence: of sixteen long tasks that a worker held, the next one runs all, not one after the other."""
    from tests.stories.apps.bakery import app, bake

    app.redis_url = redis_url
    handles = [await bake.enqueue(300.0) for _ in range(16)]

    async def run_by(name: str) -> bool:
        statuses = [await handle.status() for handle in handles]
        return all(status.state is TaskState.RUNNING and f"{name}-" in str(status.worker) for status in statuses)

    async def both_live() -> bool:
        return (await app.client.inspector.stats(["default"]))[0].workers == 2

    with worker_process(redis_url, tmp_path, "--concurrency", "16", "--name", "first", name="first") as first:
        await until(lambda: run_by("first"))
        with worker_process(redis_url, tmp_path, "--concurrency", "16", "--name", "second", name="second"):
            await until(both_live)
            first.signal(signal.SIGKILL)
            await until(lambda: run_by("second"), within=15)  # a lease of a second, and two, on an idle machine
    await app.close()


async def test_of_two_poisons_and_fourteen_innocents_exactly_the_poisons_are_dead(redis_url: str, tmp_path: Path) -> None:
    """They die together, with sixteen slots, as often as a task may; but on its last life each has its worker to itself."""
    from tests.stories.apps.bakery import app, collapse, rise

    app.redis_url = redis_url
    innocents = [await rise.enqueue(0.3) for _ in range(7)]
    poisons = [await collapse.enqueue()]
    innocents += [await rise.enqueue(0.3) for _ in range(7)]
    poisons.append(await collapse.enqueue())
    with worker_process(redis_url, tmp_path, "--concurrency", "16", "--processes", "2") as group:
        for handle in poisons:
            with pytest.raises(TaskFailed, match="lost 3 times"):
                await handle.result(timeout=60)
        for handle in innocents:
            await handle.result(timeout=30)
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0
    [stats] = await app.client.inspector.stats(["default"])
    assert (stats.dead, stats.succeeded) == (2, 14)
    await app.close()


async def test_a_blocked_event_loop_keeps_its_leases_for_a_while(app: Stoker) -> None:
    """Three times the lease: the heartbeat has a thread of its own."""

    @app.task()
    async def oversleep() -> None:
        time.sleep(3)  # noqa: ASYNC251

    handle = await oversleep.enqueue()
    async with working(app):
        await handle.result(timeout=10)
    assert (await app.client.inspector.stats(["default"]))[0].totals.lost == 0


def test_an_event_loop_that_is_stuck_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit there is no heartbeat and livez fails."""
    watch = Watchdog()
    assert not watch.stuck
    now = time.monotonic()
    monkeypatch.setattr("stoker.worker.loop.watchdog.time.monotonic", lambda: now + STUCK_AFTER + 1)
    assert watch.stuck
