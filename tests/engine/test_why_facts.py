"""The facts behind an explanation, as the queue really holds them; and the failures that a task has behind it."""

import pytest

from stoker.errors import NotFound
from stoker.manifest.policies import RateLimit
from stoker.queue.scripts import run
from stoker.rules.concurrency import Limit
from stoker.rules.settle import Bury, Failure, Retry
from stoker.rules.why import Cause, Explanation
from tests.engine.line import DONE, FAILURE, LEASE, QUEUE, Line, open_line

KNOWS = b'{"slots": 2, "busy": 0, "tasks": ["add"]}'


async def why(line: Line, task_id: str) -> Explanation:
    return await line.inspector.explain(QUEUE, task_id)


async def causes(line: Line, task_id: str) -> list[Cause]:
    return [reason.cause for reason in (await why(line, task_id)).reasons]


async def lives(line: Line, worker: str = "w", info: bytes = KNOWS) -> None:
    await run(line.redis, line.broker.heartbeat_call(worker, info, {}))


async def test_the_position_counts_suspects_too(line: Line) -> None:
    """Suspects stand in a line of their own, and are before it all the same."""
    await line.enqueue("lost")
    for _ in range(2):
        await line.fetch(1)
        await line.pass_time(LEASE + 1)
        await line.broker.reap()
    await line.enqueue("a", "b")
    await line.enqueue("urgent", priority=9)
    await lives(line)
    assert [(await why(line, task_id)).ahead for task_id in ("urgent", "lost", "a", "b")] == [0, 1, 2, 3]
    assert await causes(line, "lost") == [Cause.SUSPECT, Cause.TASKS_AHEAD]
    assert await causes(line, "urgent") == [Cause.NEXT]


async def test_who_holds_the_key(line: Line) -> None:
    await line.enqueue("k1", "k2", "k3", limit=Limit("a customer", 1))
    await line.fetch(5)
    await lives(line)
    second, third = await why(line, "k2"), await why(line, "k3")
    assert [reason.cause for reason in third.reasons] == [Cause.PARKED]
    assert (second.ahead, third.ahead) == (0, 1)
    assert "1 of 1 tasks with concurrency key 'a customer' are running: k1" in second.text


async def test_the_rate_limit_says_until_when(redis_url: str) -> None:
    async with open_line(redis_url, rate_limit=RateLimit(1, 1)) as line:
        await line.enqueue("a", "b")
        await line.fetch(2)
        await lives(line)
        assert await causes(line, "b") == [Cause.RATE_LIMIT, Cause.NEXT]


async def test_no_worker_is_there(line: Line) -> None:
    await line.enqueue("a")
    assert await causes(line, "a") == [Cause.NO_WORKERS, Cause.NEXT]
    await lives(line)
    assert await causes(line, "a") == [Cause.NEXT]
    await line.pass_time(LEASE + 1)
    assert await causes(line, "a") == [Cause.NO_WORKERS, Cause.NEXT]


async def test_no_worker_knows_the_task(line: Line) -> None:
    await line.enqueue("a")
    await lives(line, info=b'{"slots": 1, "tasks": ["subtract"]}')
    assert await causes(line, "a") == [Cause.UNCLAIMED, Cause.NEXT]
    await lives(line, "of an older version", b'{"slots": 1, "busy": 0, "draining": false}')
    assert await causes(line, "a") == [Cause.NEXT]
    await lives(line, "of another program", b"hello")
    assert await causes(line, "a") == [Cause.NEXT]


async def test_not_due_paused_cancelled_dead_and_done(line: Line) -> None:
    await lives(line)
    await line.enqueue("later", delay=60)
    assert await causes(line, "later") == [Cause.NOT_DUE]
    await line.inspector.pause(QUEUE)
    assert await causes(line, "later") == [Cause.PAUSED, Cause.NOT_DUE]
    await line.inspector.resume(QUEUE)
    await line.enqueue("a", "b")
    a, b = await line.fetch(2)
    await line.inspector.cancel(QUEUE, ["a"])
    assert await causes(line, "a") == [Cause.CANCEL_REQUESTED, Cause.RUNNING]
    await line.settle(a, DONE)
    await line.settle(b, Bury(FAILURE))
    assert (await causes(line, "a"), await causes(line, "b")) == ([Cause.SUCCEEDED], [Cause.DEAD])
    with pytest.raises(NotFound):
        await why(line, "never was")


async def test_the_pace_of_the_queue_makes_the_estimate(line: Line) -> None:
    await lives(line)
    await line.enqueue(*(f"{number:02}" for number in range(30)))
    for delivery in await line.fetch(10):
        await line.settle(delivery, DONE)
    rate = (await line.stats()).completion_rate
    assert (await why(line, "19")).eta == pytest.approx(10 / rate, rel=0.1)


async def test_failures_are_remembered_in_short_the_last_five(line: Line) -> None:
    await line.enqueue("a")
    for number in range(7):
        [delivery] = await line.fetch(worker=f"w{number}")
        await line.settle(delivery, Retry(0, Failure(f"Error{number}", "no\n" * 2000, "a traceback")))
    history = (await line.status("a")).history
    assert [(past.attempt, past.worker, past.type) for past in history] == [(n + 1, f"w{n}", f"Error{n}") for n in range(2, 7)]
    assert history[0].message == ("no\n" * 100) + "..."
    assert history[-1].at == pytest.approx(await line.clock(), abs=5000)
    assert (await why(line, "a")).history == history


async def test_a_text_is_not_cut_within_a_character(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.settle(delivery, Retry(0, Failure("E", "x" + "ä" * 1000)))
    [past] = (await line.status("a")).history
    assert past.message == "x" + "ä" * 149 + "..."


async def test_success_and_redrive_keep_the_history(line: Line) -> None:
    """What a task has behind it is of interest as long as it is kept at all."""
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.settle(delivery, Bury(FAILURE))
    await line.inspector.redrive(QUEUE, ["a"])
    [delivery] = await line.fetch()
    assert delivery.attempt == 1
    await line.settle(delivery, DONE)
    assert [past.type for past in (await line.status("a")).history] == ["ValueError"]


async def test_a_lost_worker_is_remembered(line: Line) -> None:
    await line.enqueue("a")
    await line.fetch(worker="pod-1-7-abcdef")
    await line.pass_time(LEASE + 1)
    await line.broker.reap()
    [past] = (await line.status("a")).history
    assert (past.attempt, past.worker, past.type) == (1, "pod-1-7-abcdef", "WorkerLost")
