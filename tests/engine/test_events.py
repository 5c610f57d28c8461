"""The log of events: silent without an audience, true with one, bounded, and read in order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from stoker.queue.inbox import Inbox
from stoker.queue.reads import events
from stoker.rules.concurrency import Limit
from stoker.rules.history import Event, What
from stoker.rules.settle import Bury, Release, Retry, Snooze
from stoker.rules.states import TaskState
from tests.engine.line import DONE, FAILURE, QUEUE, Line, now
from tests.waiting import until

pytestmark = pytest.mark.every_server


async def some_life(line: Line) -> None:
    """Most of what can happen."""
    await line.enqueue("done", "released", "buried", priority=1)
    await line.enqueue("late", delay=5)
    await line.enqueue("k1", "k2", limit=Limit("a customer", 1))
    first, second, third = await line.fetch(3)
    await line.settle(first, DONE)
    await line.settle(second, Release())
    await line.settle(third, Bury(FAILURE))
    [again] = await line.fetch(1)
    await line.inspector.cancel(QUEUE, ["released", "late"])
    await line.settle(again, Retry(0, FAILURE))
    [k1] = await line.fetch(5)
    await line.settle(k1, Snooze(1))
    await line.inspector.redrive(QUEUE, ["buried"])
    await line.inspector.pause(QUEUE)
    await line.inspector.resume(QUEUE)


TOLD = [
    ("enqueued", "done", "ready"),
    ("enqueued", "released", "ready"),
    ("enqueued", "buried", "ready"),
    ("enqueued", "late", "scheduled"),
    ("enqueued", "k1", "ready"),
    ("enqueued", "k2", "ready"),
    ("started", "done", None),
    ("started", "released", None),
    ("started", "buried", None),
    ("succeeded", "done", None),
    ("released", "released", None),
    ("dead", "buried", None),
    ("started", "released", None),
    ("cancel_requested", "released", None),
    ("cancelled", "late", None),
    ("cancelled", "released", None),
    ("parked", "k2", "a customer"),
    ("started", "k1", None),
    ("snoozed", "k1", None),
    ("redriven", "buried", None),
    ("paused", "", None),
    ("resumed", "", None),
]


async def told(line: Line) -> list[tuple[str, str, str | None]]:
    return [(str(event.what), event.id, event.detail) for event in await line.inspector.latest_events(QUEUE, 1000)]


async def test_without_an_audience_nothing_is_written(line: Line) -> None:
    await some_life(line)
    assert await now(line.redis.exists(line.keys.events)) == 0


async def test_with_one_everything_is(line: Line) -> None:
    await events.attend(line.redis, line.keys)
    await some_life(line)
    assert await told(line) == TOLD


async def test_it_goes_silent_when_the_audience_has_left(line: Line) -> None:
    await events.attend(line.redis, line.keys)
    await line.enqueue("a")
    await line.pass_time(events.AUDIENCE + 0.1)
    await line.enqueue("b")
    assert await told(line) == [("enqueued", "a", "ready")]


async def test_a_new_listener_does_not_shorten_the_stay_of_another(line: Line) -> None:
    await line.clock()
    later = await line.clock() + 60_000
    await now(line.redis.hset(line.keys.meta, "audience_until", later))
    await events.attend(line.redis, line.keys)
    assert int(await now(line.redis.hget(line.keys.meta, "audience_until"))) == later


async def test_the_log_is_bounded_and_goes_away(line: Line) -> None:
    await events.attend(line.redis, line.keys)
    for _ in range(60):
        await line.enqueue(*(f"t{number}" for number in range(200)))
        assert sum([gone async for gone in line.inspector.purge(QUEUE, TaskState.READY)]) == 200
    kept = await now(line.redis.xlen(line.keys.events))
    assert 10_000 <= kept < 11_000, "24,000 things have happened"
    await events.attend(line.redis, line.keys)
    assert 0 < await now(line.redis.pttl(line.keys.events)) <= events.KEPT * 1000


async def test_upkeep_tells_too(line: Line) -> None:
    await events.attend(line.redis, line.keys)
    await now(line.redis.xadd(line.keys.inbox, {"task": "add", "id": "in"}))
    await now(line.redis.xadd(line.keys.inbox, {"task": "", "id": "bad"}))
    await Inbox(line.redis, line.keys).take_in()
    [delivery] = await line.fetch(1)
    await line.pass_time(14)
    await events.attend(line.redis, line.keys)
    await line.pass_time(14)
    await events.attend(line.redis, line.keys)
    await line.pass_time(3)
    await line.broker.reap()
    assert delivery.id == "in"
    assert [(what, detail) for what, _, detail in await told(line)] == [
        ("enqueued", "ready"),
        ("dead", "inbox"),
        ("started", None),
        ("reclaimed", None),
    ]
    [lost] = [event for event in await line.inspector.latest_events(QUEUE) if event.what is What.RECLAIMED]
    assert (lost.id, lost.task, lost.worker) == ("in", "add", "w")


async def heard(stream: AsyncIterator[Event], count: int) -> list[str]:
    async with asyncio.timeout(10):
        return [f"{event.what} {event.id}" for event in [await anext(stream) for _ in range(count)]]


async def attended(line: Line) -> bool:
    return bool(await now(line.redis.hexists(line.keys.meta, "audience_until")))


async def test_who_listens_hears_what_happens_from_now_on(line: Line) -> None:
    await line.enqueue("before")
    stream = line.inspector.events(QUEUE)
    first = asyncio.create_task(anext(stream))
    await until(lambda: attended(line))
    await line.enqueue("after")
    async with asyncio.timeout(10):
        event = await first
    assert (event.what, event.id, event.task, event.detail) == (What.ENQUEUED, "after", "add", "ready")
    await stream.aclose()


async def test_a_listener_goes_on_where_another_stopped(line: Line) -> None:
    await events.attend(line.redis, line.keys)
    await line.enqueue("a", "b", "c")
    first, *_ = await line.inspector.latest_events(QUEUE)
    stream = line.inspector.events(QUEUE, after=first.position)
    assert await heard(stream, 2) == ["enqueued b", "enqueued c"]
    await stream.aclose()


async def test_a_listener_survives_a_log_that_was_deleted_and_began_again(line: Line) -> None:
    """After a failover, or a pause longer than the log lasts, its entries may have smaller numbers."""
    stream = line.inspector.events(QUEUE, after="99999999999999-0")
    first = asyncio.create_task(anext(stream))
    await until(lambda: attended(line))
    await line.enqueue("a")
    async with asyncio.timeout(10):
        assert (await first).id == "a"
    await stream.aclose()


async def test_a_listener_ends_when_it_is_cancelled(line: Line) -> None:
    async def listen() -> None:
        async for _ in line.inspector.events(QUEUE):
            pass

    listening = asyncio.create_task(listen())
    await until(lambda: attended(line))
    listening.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await listening
