"""Cancelling: exactly one end, whatever races with it."""

import asyncio

import pytest

from stoker.queue.reads.inspector import Cancellation
from stoker.rules.settle import Bury, Cancel, Release, Retry, Snooze, Transition
from tests.engine.line import DONE, FAILURE, LEASE, QUEUE, Line, now

RACES = 1000


async def cancel(line: Line, *ids: str) -> list[Cancellation]:
    return await line.inspector.cancel(QUEUE, ids)


async def test_waiting_tasks_are_cancelled_at_once(line: Line) -> None:
    await line.enqueue("ready")
    await line.enqueue("later", delay=60, priority=3)
    assert await cancel(line, "ready", "later") == ["cancelled", "cancelled"]
    assert [(await line.status(name)).state for name in ("ready", "later")] == ["cancelled", "cancelled"]
    assert await line.fetch() == []


async def test_a_suspect_can_be_cancelled(line: Line) -> None:
    await line.enqueue("a")
    for _ in range(2):
        await line.fetch()
        await line.pass_time(LEASE + 1)
        await line.broker.reap()
    assert await now(line.redis.zcard(line.keys.suspects)) == 1
    assert await cancel(line, "a") == ["cancelled"]


async def test_a_cancelled_run_that_dies_leaves_no_failures_behind(line: Line) -> None:
    await line.enqueue("a")
    [a] = await line.fetch()
    await line.settle(a, Retry(0, FAILURE))
    await line.fetch()
    await cancel(line, "a")
    await line.pass_time(LEASE + 1)
    await line.broker.reap()
    status = await line.status("a")
    assert (status.state, status.failure) == ("cancelled", None)
    await line.check()


async def test_cancelling_twice_or_too_late(line: Line) -> None:
    await line.enqueue("a", "b")
    [a] = await line.fetch(1)
    await line.settle(a, DONE)
    assert await cancel(line, "a", "b", "b", "nobody") == ["over", "cancelled", "cancelled", "unknown"]


async def test_a_worker_hears_of_it_with_its_heartbeat(line: Line) -> None:
    await line.enqueue("a", "b")
    a, b = await line.fetch()
    assert await cancel(line, "a") == ["requested"]
    assert (await line.beat(a, b)).cancelled == [a.fence]
    assert await line.settle(a, Cancel())
    assert (await line.status("a")).state == "cancelled"
    assert (await line.status("b")).state == "running"


@pytest.mark.parametrize(
    "end", [Retry(0, FAILURE), Retry(9, FAILURE), Snooze(9), Release(), Cancel()], ids=lambda e: type(e).__name__
)
async def test_a_cancelled_run_never_runs_again(line: Line, end: Transition) -> None:
    await line.enqueue("a", priority=2)
    [a] = await line.fetch()
    await cancel(line, "a")
    assert await line.settle(a, end)
    assert (await line.status("a")).state == "cancelled"


@pytest.mark.parametrize(("end", "state"), [(DONE, "succeeded"), (Bury(FAILURE), "dead")])
async def test_a_task_that_ends_before_it_sees_its_cancellation_keeps_its_end(line: Line, end: Transition, state: str) -> None:
    await line.enqueue("a")
    [a] = await line.fetch()
    await cancel(line, "a")
    await line.settle(a, end)
    assert (await line.status("a")).state == state


async def test_a_worker_that_dies_first_takes_nothing_back(line: Line) -> None:
    await line.enqueue("a")
    await line.fetch()
    await cancel(line, "a")
    await line.pass_time(LEASE + 1)
    await line.broker.reap()
    assert (await line.status("a")).state == "cancelled"


async def test_one_that_had_failed_before_leaves_nothing_behind(line: Line) -> None:
    await line.enqueue("a", priority=3)
    [first] = await line.fetch()
    await line.settle(first, Retry(0, FAILURE))
    await line.fetch()
    await cancel(line, "a")
    await line.pass_time(LEASE + 1)
    await line.broker.reap()
    assert (await line.status("a")).state == "cancelled"
    await line.check()


async def test_races_of_cancel_and_settle_have_one_end(line: Line) -> None:
    """Cancel and success at the same moment: the task is one or the other, and the answers agree with it."""
    await line.enqueue(*[f"t{n}" for n in range(RACES)])
    held = {delivery.id: delivery for _ in range(RACES // 100) for delivery in await line.fetch(100)}
    answers = await asyncio.gather(
        *(work for delivery in held.values() for work in (line.settle(delivery, DONE), cancel(line, delivery.id)))
    )
    assert all(answers[::2]), "the worker owned every one of them"
    states = [(await line.status(task_id)).state for task_id in held]
    assert set(states) <= {"succeeded", "cancelled"}
    await line.check()


async def test_cancelled_tasks_are_forgotten_with_the_finished_ones(line: Line) -> None:
    await line.enqueue("a")
    await cancel(line, "a")
    await line.pass_time(3601)
    assert await line.broker.sweep() == (1, 0)
