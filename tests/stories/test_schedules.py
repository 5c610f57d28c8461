"""Tasks by the clock: no scheduler process, each moment once, and nothing is left of what is removed."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stoker import Concurrency, Context, Invalid, Stoker, Unique, cron, every
from stoker.app.app import application_of
from stoker.queue.schedules import TASKQUEUE, ScheduleStatus
from stoker.rules.schedule import Timing
from tests.stories.working import worker_process, working
from tests.waiting import until


async def listed(app: Stoker) -> dict[str, ScheduleStatus]:
    return {status.name: status for status in await app.client.inspector.schedules("default").all()}


async def test_a_scheduled_task_runs_and_knows_for_which_moment(app: Stoker):
    moments: list[datetime | None] = []

    @app.task(schedule=every(1))
    async def tick(ctx: Context) -> None:
        moments.append(ctx.scheduled_for)

    async with working(app):
        await until(lambda: len(moments) >= 3)
    first, second, third = moments[:3]
    assert first
    assert first.tzinfo is UTC
    assert abs(datetime.now(UTC) - first) < timedelta(seconds=10)
    assert (second, third) == (first + timedelta(seconds=1), first + timedelta(seconds=2))


async def test_a_call_with_arguments_and_options_runs_by_the_clock(app: Stoker):
    said: list[str] = []

    @app.task()
    async def greet(name: str, ctx: Context) -> None:
        said.append(f"{ctx.schedule}: {name}")

    app.schedule("morning", every(1), greet.options(priority=3).prepare("Ada"))
    app.schedule("evening", cron("0 18 * * *", time_zone="Europe/Berlin"), greet.options().prepare("Grace"))
    async with working(app):
        await until(lambda: said)
        await until(lambda: running_none(app))
        shown = await listed(app)
    assert said[0] == "morning: Ada"
    assert shown["morning"].last_run
    assert shown["evening"].last_run is None
    due = shown["evening"].next_run
    assert due
    assert datetime.fromtimestamp(due / 1000, UTC).hour in {16, 17}


async def running_none(app: Stoker) -> bool:
    [stats] = await app.client.inspector.stats(["default"])
    return stats.running == 0


async def test_two_workers_with_the_same_schedule_run_it_once(app: Stoker, redis: Redis, tmp_path: Path):
    await by_the_clock(app, "bake", every(1, overlap="Allow"), 0)
    with worker_process(app.redis_url, tmp_path, name="one"), worker_process(app.redis_url, tmp_path, name="two"):
        await until(lambda: started(redis, 4))
    notes = [note.split()[1] for note in await redis.lrange("bakery:notes", 0, -1) if note.startswith("start")]
    assert len(notes) == len(set(notes))


async def by_the_clock(app: Stoker, name: str, timing: Timing, *args: object) -> None:
    """What the operator does: a schedule for the bakery's workers that is in no code."""

    @app.task(name=name)
    async def task(seconds: float = 0) -> None: ...

    app.schedule("bread", timing, task.options().prepare(*args))
    await app.client.inspector.schedules("default").register(TASKQUEUE, 1, [application_of(app).schedules["bread"].definition])


async def started(redis: Redis, times: int) -> bool:
    notes = await redis.lrange("bakery:notes", 0, -1)
    return len({note.split()[1] for note in notes}) >= times


async def test_a_run_that_takes_longer_than_its_period_is_not_doubled(app: Stoker):
    running = most = 0

    @app.task(schedule=every(1))
    async def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1.5)
        running -= 1

    async with working(app):
        await until(lambda: skipped(app, "slow"))
    assert most == 1


async def skipped(app: Stoker, name: str) -> int:
    status = (await listed(app)).get(name)
    return status.skipped if status else 0


async def test_a_schedule_that_left_the_code_is_gone(app: Stoker):
    old, new = Stoker("shop", redis=app.redis_url), app

    @old.task(schedule=cron("0 3 * * *"))
    async def report() -> None: ...

    @new.task()
    async def report_() -> None: ...

    async with working(old):
        await until(lambda: listed(new))
    assert await listed(new), "it stays while nobody works"
    async with working(new):
        await until(lambda: gone(new))
    [stats] = await new.client.inspector.stats(["default"])
    assert (stats.schedules, stats.scheduled, stats.ready) == (0, 0, 0)


async def gone(app: Stoker) -> bool:
    return not await listed(app)


async def test_a_change_in_the_code_takes_effect_with_the_next_worker(app: Stoker):
    old, ran = Stoker("shop", redis=app.redis_url), []

    @old.task(name="report", schedule=cron("@yearly"))
    async def old_report() -> None: ...

    @app.task(schedule=every(1))
    async def report() -> None:
        ran.append(1)

    async with working(old):
        await until(lambda: listed(app))
    async with working(app):
        await until(lambda: ran)


async def test_runs_missed_while_no_worker_was_there_run_once(app: Stoker):
    """Scaled to zero, or all down: the last moment that was missed runs when somebody is there."""
    moments: list[datetime | None] = []

    @app.task(schedule=every(1))
    async def tick(ctx: Context) -> None:
        moments.append(ctx.scheduled_for)

    async with working(app):
        await until(lambda: moments)
    first = moments[-1]
    assert first
    await until(lambda: datetime.now(UTC) > first + timedelta(seconds=3.2))
    moments.clear()
    async with working(app):
        await until(lambda: moments)
    again = moments[0]
    assert again
    assert again >= first + timedelta(seconds=3)
    assert (await listed(app))["tick"].missed >= 2


async def test_a_worker_that_dies_with_a_run_loses_neither_the_run_nor_the_clock(app: Stoker, redis: Redis, tmp_path: Path):
    """kill -9 in the middle: the run comes back as attempt 2, the next moments go on."""
    await by_the_clock(app, "bake_once", every(2, overlap="Allow"))
    with worker_process(app.redis_url, tmp_path, name="one") as one:
        await until(lambda: redis.llen("bakery:notes"))
        one.signal(signal.SIGKILL)
        await one.exit_code()
    with worker_process(app.redis_url, tmp_path, name="two"):
        await until(lambda: enough(redis), within=20)
    notes = await redis.lrange("bakery:notes", 0, -1)
    killed = notes[0].split()[1]
    assert f"start {killed} 2" in notes


async def enough(redis: Redis) -> bool:
    notes = await redis.lrange("bakery:notes", 0, -1)
    return any(note.endswith(" 2") for note in notes) and await started(redis, 3)


@pytest.mark.parametrize(
    "option",
    [{"delay": 5.0}, {"id": "a"}, {"idempotency_key": "a"}, {"unique": Unique()}, {"run_at": datetime(2030, 1, 1, tzinfo=UTC)}],
)
def test_what_a_schedule_decides_itself_cannot_be_given(app: Stoker, option: dict[str, object]):
    @app.task()
    async def report() -> None: ...

    with pytest.raises(Invalid, match=next(iter(option))):
        app.schedule("nightly", cron("@daily"), report.options(**option).prepare())


def test_a_schedule_that_cannot_work_is_refused_where_it_is_written(app: Stoker):
    with pytest.raises(Invalid, match="arguments do not fit"):

        @app.task(schedule=cron("@daily"))
        async def report(day: str) -> None: ...

    @app.task(concurrency=Concurrency("reports"))
    async def fine() -> None: ...

    app.schedule("nightly", cron("@daily"), fine.options().prepare())
    assert application_of(app).schedules["nightly"].definition.limit
    with pytest.raises(Invalid, match="two schedules"):
        app.schedule("nightly", cron("@hourly"), fine.options().prepare())
