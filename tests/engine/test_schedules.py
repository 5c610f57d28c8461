"""Schedules in Redis: each moment becomes one run, whoever looks and how often; sources, changes, removal."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from stoker.errors import Invalid, NotFound
from stoker.queue.schedules import HOLD, MOST, TASKQUEUE, Schedules, ScheduleStatus
from stoker.rules.admission import Admission
from stoker.rules.concurrency import Limit
from stoker.rules.message import decode
from stoker.rules.retry import Backoff
from stoker.rules.schedule import Definition, Timing, cron, every, run_id
from stoker.rules.settle import Bury, Retry
from tests.engine.line import DONE, FAILURE, QUEUE, Line, message, now

HOUR = 3600.0
CODE = "code:shop"
MINUTELY = "* * * * *"


@pytest.fixture
def schedules(line: Line) -> Schedules:
    return line.inspector.schedules(QUEUE)


def definition(
    name: str = "nightly", timing: Timing | None = None, task: str = "report", payload: str = "{}", **fields: Any
) -> Definition:
    return Definition(name, timing or cron("@hourly"), task, Raw(payload.encode()), **fields)


async def declare(schedules: Schedules, *definitions: Definition, source: str = CODE, version: int = 1) -> bool:
    return (await schedules.register(source, version, definitions)).accepted


async def status(schedules: Schedules, name: str = "nightly") -> ScheduleStatus:
    return next(found for found in await schedules.all() if found.name == name)


async def at_next(line: Line, schedules: Schedules, name: str = "nightly", *, late: float = 0.0) -> int:
    """Time goes on until the next run is due. Returns its moment."""
    due = (await status(schedules, name)).next_run
    assert due is not None
    await line.pass_time((due - await line.clock()) / 1000 + late)
    return due


async def test_a_moment_becomes_one_run_and_the_next_is_waited_for(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition(payload='{"day":"all"}', priority=5, max_retries=1, timeout=9.0))
    assert (await schedules.look()).started == []
    moment = await at_next(line, schedules)
    looked = await schedules.look()
    assert len(looked.started) == looked.moved == 1
    assert (await schedules.look()).started == []

    [delivery] = await line.fetch()
    message = decode(delivery.envelope)
    assert [message.id] == looked.started
    assert (message.task, bytes(message.payload), message.priority) == ("report", b'{"day":"all"}', 5)
    assert (message.max_retries, message.timeout) == (1, 9.0)
    assert (message.schedule, message.scheduled_for) == ("nightly", moment)
    assert (await status(schedules)).next_run == moment + HOUR * 1000


async def test_a_run_has_the_options_of_its_schedule_and_expires_after_it_was_enqueued(line: Line, schedules: Schedules) -> None:
    options = {"timeout": 9.0, "soft_timeout": 5.0, "retry": Backoff(7, 1.0), "expires": 600.0, "headers": {"team": "shop"}}
    await declare(schedules, definition(**options))
    await at_next(line, schedules)
    await schedules.look()
    [delivery] = await line.fetch()
    message = decode(delivery.envelope)
    assert (message.timeout, message.soft_timeout, message.retry, message.headers) == (9.0, 5.0, Backoff(7, 1.0), {"team": "shop"})
    assert message.expires == message.created + 600_000


async def test_many_who_look_at_once_start_it_once(line: Line, schedules: Schedules) -> None:
    await declare(schedules, *(definition(f"s{number}", every(60)) for number in range(20)))
    for round_ in range(3):
        await at_next(line, schedules, "s0")
        looks = await asyncio.gather(*(schedules.look() for _ in range(20)))
        started = [task_id for look in looks for task_id in look.started]
        assert len(started) == len(set(started)) == 20, f"round {round_}"
        assert sorted(await line.order()) == sorted(started)
        await line.pass_time(31)
        await line.broker.reap()
        for delivery in [each for _ in range(20) for each in await line.fetch(1)]:
            await line.settle(delivery, DONE)


async def test_a_run_wakes_a_worker_and_stands_in_line_by_its_priority(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition("low", priority=-5), definition("high", priority=5))
    await line.enqueue("between")
    await now(line.redis.delete(line.keys.wake))
    await at_next(line, schedules, "low")
    await schedules.look()
    assert await now(line.redis.llen(line.keys.wake)) == 1
    assert [task_id.split("-")[1:2] for task_id in await line.order()] == [["high"], [], ["low"]]


async def test_the_next_run_counts_as_due_and_is_shown(line: Line, schedules: Schedules) -> None:
    assert (await line.stats()).next_run is None
    await declare(schedules, definition())
    stats = await line.stats()
    assert (stats.schedules, stats.due, stats.scheduled) == (1, 0, 0)
    assert stats.next_run is not None
    assert 0 < stats.next_run <= HOUR
    assert (await line.stats(horizon=HOUR)).due == 1
    await at_next(line, schedules, late=5)
    stats = await line.stats()
    assert stats.due == 1
    assert stats.next_run is not None
    assert -6 < stats.next_run <= -5


async def test_a_moment_is_skipped_while_the_last_run_has_not_ended(line: Line, schedules: Schedules) -> None:
    """Waiting, running, waiting for its retry: it has not ended."""
    await declare(schedules, definition())

    async def next_moment() -> list[str]:
        await at_next(line, schedules)
        return (await schedules.look()).started

    first = await next_moment()
    assert await next_moment() == [], "it waits"
    [held] = await line.fetch()
    assert await next_moment() == [], "it runs"
    assert (await line.broker.reap()).given_back == 1
    [held] = await line.fetch()
    await line.settle(held, Retry(3 * HOUR, FAILURE))
    assert await next_moment() == [], "it waits for its retry"
    assert (await status(schedules)).skipped == 3
    assert (await status(schedules)).last_run == first[0]

    await line.pass_time(3 * HOUR)
    await schedules.look()
    [held] = await line.fetch()
    await line.settle(held, Bury(FAILURE))
    assert await next_moment(), "dead is over"


async def test_runs_stand_beside_each_other_where_that_is_allowed(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition(timing=cron("@hourly", overlap="Allow")))
    for _ in range(3):
        await at_next(line, schedules)
        await schedules.look()
    assert len(await line.order()) == 3
    assert (await status(schedules)).skipped == 0


async def test_after_an_outage_the_last_moment_runs_once(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition())
    moment = await at_next(line, schedules, late=3.5 * HOUR)
    await schedules.look()
    [delivery] = await line.fetch()
    assert decode(delivery.envelope).scheduled_for == moment + 3 * HOUR * 1000
    found = await status(schedules)
    assert (found.missed, found.next_run) == (3, moment + 4 * HOUR * 1000)


async def test_or_none_of_them_does(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition(timing=cron("@hourly", catch_up="None")))
    moment = await at_next(line, schedules, late=3.5 * HOUR)
    look = await schedules.look()
    assert (look.started, look.moved) == ([], 1)
    found = await status(schedules)
    assert (found.missed, found.next_run, found.last_run) == (4, moment + 4 * HOUR * 1000, None)


async def test_how_the_last_run_ended_is_known_after_it_is_forgotten(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition())
    assert (await status(schedules)).last_state is None
    await at_next(line, schedules)
    await schedules.look()
    [held] = await line.fetch()
    assert (await status(schedules)).last_state == "running"
    await line.settle(held, DONE)
    await schedules.look()
    await line.pass_time(3 * HOUR)
    await line.broker.sweep()
    found = await status(schedules)
    assert (found.last_run, found.last_state) == (held.id, "succeeded")


async def test_a_change_of_the_times_moves_the_next_run(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition(timing=cron("@yearly")))
    before = (await status(schedules)).next_run
    await declare(schedules, definition(timing=cron(MINUTELY)), version=2)
    found = await status(schedules)
    assert before
    assert found.next_run
    assert found.next_run <= await line.clock() + 60_000 < before
    assert (await line.stats()).schedules == 1, "nothing is left of the old one"


async def test_another_payload_changes_nothing_about_when(line: Line, schedules: Schedules) -> None:
    """Even where the run was due already: it must not be lost."""
    await declare(schedules, definition(payload='{"day":"old"}'))
    moment = await at_next(line, schedules, late=1)
    await declare(schedules, definition(payload='{"day":"new"}'), version=2)
    await schedules.look()
    [delivery] = await line.fetch()
    message = decode(delivery.envelope)
    assert (message.scheduled_for, bytes(message.payload)) == (moment, b'{"day":"new"}')


async def test_who_has_read_an_old_definition_starts_nothing(line: Line, schedules: Schedules, monkeypatch: Any) -> None:
    await declare(schedules, definition(payload='{"day":"old"}'))
    await at_next(line, schedules)
    read = schedules._timetable

    async def changed_meanwhile(limit: int) -> Any:
        reply = await read(limit)
        monkeypatch.undo()
        await declare(schedules, definition(payload='{"day":"new"}'), version=2)
        return reply

    monkeypatch.setattr(schedules, "_timetable", changed_meanwhile)
    assert (await schedules.look()).moved == 0
    assert len((await schedules.look()).started) == 1
    [delivery] = await line.fetch()
    assert bytes(decode(delivery.envelope).payload) == b'{"day":"new"}'


async def test_what_a_source_no_longer_lists_is_gone(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition("a"), definition("b"))
    await at_next(line, schedules, "a")
    await schedules.look()
    await declare(schedules, definition("b"), version=2)
    assert [found.name for found in await schedules.all()] == ["b"]
    await declare(schedules, version=3)
    assert await schedules.all() == []
    left = await now(line.redis.hkeys(line.keys.schedules))
    assert left == [b"source code:shop"]
    assert await now(line.redis.exists(line.keys.upcoming, line.keys.runs)) == 0
    assert len(await line.order()) == 2, "runs that were started are tasks like any other"


async def test_without_a_schedule_nothing_is_written(line: Line, schedules: Schedules) -> None:
    assert await declare(schedules)
    assert await now(line.redis.exists(line.keys.schedules)) == 0


async def test_an_older_version_is_not_heard_while_the_newer_lives(line: Line, schedules: Schedules) -> None:
    """A rollout: old and new workers run side by side, and each says again and again what it has."""
    old, new = definition(timing=cron("@hourly")), definition(timing=cron("@daily"))
    assert await declare(schedules, old, version=10)
    assert await declare(schedules, new, version=20)
    for _ in range(3):
        assert not await declare(schedules, old, version=10)
        await line.pass_time(HOLD / 2)
        assert await declare(schedules, new, version=15), "another new one keeps it alive as well"
    assert (await status(schedules)).definition == new
    await line.pass_time(HOLD + 1)
    assert await declare(schedules, old, version=10), "rolled back: nobody is left who knows the new list"
    assert (await status(schedules)).definition == old


async def test_a_removal_is_not_undone_by_an_old_worker(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition(), version=10)
    await declare(schedules, version=20)
    assert not await declare(schedules, definition(), version=10)
    assert await schedules.all() == []


async def test_the_taskqueue_wins_over_code(line: Line, schedules: Schedules) -> None:
    code, manifest = definition(timing=cron("@hourly")), definition(timing=cron("@daily"))
    await declare(schedules, code, definition("other"))
    await declare(schedules, manifest, source=TASKQUEUE)
    answer = await schedules.register(CODE, 2, [code, definition("other")])
    assert answer == (True, ["nightly"])
    assert (await status(schedules)).definition == manifest
    assert (await status(schedules)).source == TASKQUEUE
    await declare(schedules, source=TASKQUEUE, version=2)
    assert [found.name for found in await schedules.all()] == ["other"]
    await declare(schedules, code, definition("other"), version=2)
    assert (await status(schedules)).definition == code, "the code says it again and again"


async def test_a_name_belongs_to_one_application(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition())
    assert (await schedules.register("code:bakery", 9, [definition(task="bake")])).taken == ["nightly"]
    assert (await status(schedules)).source == CODE


async def test_suspended_it_waits_for_nothing(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition())
    await declare(schedules, definition(suspend=True), version=2)
    assert (await status(schedules)).next_run is None
    await line.pass_time(5 * HOUR)
    assert (await schedules.look()).started == []
    await declare(schedules, definition(), version=3)
    due = (await status(schedules)).next_run
    assert due
    assert due > await line.clock(), "what passed meanwhile is not caught up with"


async def test_a_person_pauses_and_resumes_it(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition())
    assert await schedules.pause("nightly")
    assert not await schedules.pause("nightly")
    await declare(schedules, definition(payload='{"a":1}'), version=2)
    assert (await status(schedules)).paused, "also when it is declared anew"
    assert (await status(schedules)).next_run is None
    await line.pass_time(5 * HOUR)
    assert (await schedules.look()).started == []
    assert await schedules.resume("nightly")
    assert not await schedules.resume("nightly")
    due = (await status(schedules)).next_run
    assert due
    assert due > await line.clock()


async def test_a_person_starts_a_run(line: Line, schedules: Schedules) -> None:
    """Beside whatever is waited for, and whether or not the last run has ended."""
    await declare(schedules, definition(payload='{"day":"all"}'))
    due = (await status(schedules)).next_run
    first, second = await schedules.run_now("nightly"), await schedules.run_now("nightly")
    assert await line.order() == [first, second]
    found = await status(schedules)
    assert (found.next_run, found.last_run) == (due, first)
    with pytest.raises(NotFound):
        await schedules.run_now("daily")


async def test_a_person_removes_it(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition())
    await schedules.remove("nightly")
    assert await schedules.all() == []
    with pytest.raises(NotFound):
        await schedules.remove("nightly")


async def test_an_id_that_is_taken_does_not_stop_the_clock(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition())
    moment = await at_next(line, schedules)
    taken = run_id("nightly", moment)
    await line.enqueue(taken)
    assert (await schedules.look()).started == []
    assert (await status(schedules)).next_run == moment + HOUR * 1000
    assert await line.order() == [taken]


async def test_concurrency_keys_hold_for_runs(line: Line, schedules: Schedules) -> None:
    await line.broker.enqueue([Admission(message("x"), limit=Limit("printer", 1))])
    await line.fetch()
    await declare(schedules, definition(limit=Limit("printer", 1)))
    await at_next(line, schedules)
    await schedules.look()
    assert await line.order() == []
    assert (await line.stats()).parked == 1


async def test_a_definition_of_a_newer_version_is_left_to_newer_workers(line: Line, schedules: Schedules) -> None:
    await declare(schedules, definition("old"), definition("new"))
    text = await now(line.redis.hget(line.keys.schedules, "definition new"))
    await now(line.redis.hset(line.keys.schedules, "definition new", text.replace(b"@hourly", b"@moonrise")))
    await at_next(line, schedules, "old")
    look = await schedules.look()
    assert (len(look.started), look.moved) == (1, 1)
    assert (await status(schedules, "new")).definition is None
    with pytest.raises(Invalid, match="newer version"):
        await schedules.run_now("new")


async def test_a_queue_takes_a_limited_number_of_schedules(line: Line, schedules: Schedules) -> None:
    many = [definition(f"s{number}", every(3600)) for number in range(MOST)]
    assert await declare(schedules, *many)
    with pytest.raises(Invalid, match="at most"):
        await declare(schedules, *many, definition("another"))
    await at_next(line, schedules, "s0")
    started = 0
    while (look := await schedules.look()).moved:
        started += len(look.started)
    assert started == MOST
