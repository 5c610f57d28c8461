"""The testing kit, as the authors of applications use it: real scripts, a real worker, a clock that the test moves."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import pytest
from redis import Redis

from stoker import Concurrency, Context, Dead, Depends, Retry, State, Stoker, chain, cron, every, group, testing
from stoker.manifest.policies import Lease, RateLimit
from stoker.queue import scripts
from stoker.rules.call import TaskCall
from stoker.rules.retry import Jitter
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from stoker.testing.kit import STEP_INTERVAL
from tests.testing import oven


@pytest.fixture(scope="session")
def server() -> object:
    with testing.Server() as server:
        yield server


@pytest.fixture
def app() -> Stoker:
    return Stoker("shop", redis="redis://production.example.org:6379/0")


@pytest.fixture
async def kit(app: Stoker, server: testing.Server) -> AsyncIterator[testing.Kit]:
    async with testing.run(app, server) as kit:
        yield kit


async def test_nothing_runs_until_the_test_runs_it(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def add(a: int, b: int) -> int:
        return a + b

    handle = await add.enqueue(2, b=3)
    assert kit.runs == []
    [run] = await kit.run_until_idle()
    assert (run.task, run.arguments, run.outcome, run.result) == ("add", {"a": 2, "b": 3}, "succeeded", 5)
    assert kit.assert_succeeded(handle) == 5
    assert await handle.result(timeout=1) == 5
    assert await kit.run_until_idle() == []


async def test_what_tasks_enqueue_runs_too_in_every_queue(app: Stoker, kit: testing.Kit) -> None:
    @app.task(queue="reports")
    async def report(order: int) -> None: ...

    @app.task()
    async def ship(order: int) -> None:
        await report.options(queue="made-up").enqueue(order)
        await report.enqueue(order)

    await ship.enqueue(7)
    runs = await kit.run_until_idle()
    assert (runs[0].task, runs[0].queue) == ("ship", "default")
    assert {(run.task, run.queue) for run in runs[1:]} == {("report", "reports"), ("report", "made-up")}


async def test_a_task_may_wait_for_another(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def inner() -> str:
        return "done"

    @app.task()
    async def outer() -> str:
        return await (await inner.enqueue()).result(timeout=5)

    await outer.enqueue()
    assert [(run.task, run.result) for run in await kit.run_until_idle()] == [("outer", "done"), ("inner", "done")]


async def test_delays_pass_without_waiting(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def remind(number: int) -> None: ...

    began = time.monotonic()
    await remind.options(delay=3600).enqueue(1)
    await remind.options(run_at=datetime.now(UTC) + timedelta(days=30)).enqueue(2)
    assert await kit.run_until_idle() == []
    kit.clock.advance(3500)
    assert await kit.run_until_idle() == []
    kit.clock.advance(100)
    assert [run.arguments["number"] for run in await kit.run_until_idle()] == [1]
    kit.clock.advance(timedelta(days=30))
    assert [run.arguments["number"] for run in await kit.run_until_idle()] == [2]
    assert time.monotonic() - began < 5


async def test_a_moment_that_the_code_under_test_computes_means_what_it_says(app: Stoker, kit: testing.Kit) -> None:
    """The kit's clock stands still, and that of the code does not: before each move the one catches up with the other."""

    @app.task()
    async def remind() -> None: ...

    await asyncio.sleep(0.02)
    await remind.options(run_at=datetime.now(UTC) + timedelta(seconds=300)).enqueue()
    kit.clock.advance(300)
    assert len(await kit.run_until_idle()) == 1


async def test_tasks_that_end_while_the_kit_looks_elsewhere_are_settled(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def nap() -> None:
        await asyncio.sleep(1.1 * STEP_INTERVAL)

    for _ in range(30):
        handle = await nap.enqueue()
        await kit.run_until_idle()
        kit.assert_succeeded(handle)


async def test_the_clock_stands_still_between_moves(app: Stoker, kit: testing.Kit) -> None:
    before = kit.clock.now()
    await asyncio.sleep(0.01)
    assert kit.clock.now() == before
    assert kit.clock() == pytest.approx(before.timestamp(), abs=1e-5)
    kit.clock.move_to(datetime(2031, 5, 1, 12, tzinfo=UTC))
    assert kit.clock.now() == datetime(2031, 5, 1, 12, tzinfo=UTC)


async def test_a_retry_comes_when_it_is_due(app: Stoker, kit: testing.Kit) -> None:
    @app.task(retry=Retry(max_retries=3, initial_delay=60, multiplier=2, jitter=Jitter.NONE))
    async def flaky(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise ConnectionError("not yet")
        return ctx.attempt

    handle = await flaky.enqueue()
    [first] = await kit.run_until_idle()
    assert (first.outcome, first.again_in) == ("retried", 60)
    assert first.failure is not None
    assert first.failure.message == "not yet"
    kit.clock.advance(60)
    [second] = await kit.run_until_idle()
    assert (second.attempt, second.again_in) == (2, 120)
    assert kit.enqueued(flaky)[0].due_in == pytest.approx(120, abs=0.01)
    kit.clock.advance(120)
    await kit.run_until_idle()
    assert kit.assert_succeeded(handle) == 3


async def test_a_crashed_workers_tasks_come_back_when_their_lease_ends(app: Stoker, kit: testing.Kit) -> None:
    runs: list[int] = []

    @app.task()
    async def ship(ctx: Context) -> None:
        runs.append(ctx.attempt)

    handle = await ship.enqueue()
    assert await kit.crash_worker(after="fetch") == [handle.id]
    assert (runs, await kit.run_until_idle()) == ([], [])
    kit.clock.advance(31)
    await kit.run_until_idle()
    assert runs == [2]
    kit.assert_succeeded(handle)


async def test_a_worker_that_crashes_after_running_makes_it_run_twice(app: Stoker, kit: testing.Kit) -> None:
    """At least once: whoever charges a card has to know."""
    charges: list[int] = []

    @app.task()
    async def charge(ctx: Context) -> None:
        charges.append(ctx.attempt)

    await charge.enqueue()
    await kit.crash_worker(after="run")
    kit.clock.advance(31)
    await kit.run_until_idle()
    assert charges == [1, 2]


async def test_what_kills_its_worker_every_time_is_buried(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def eat_memory() -> None: ...

    handle = await eat_memory.enqueue()
    for _ in range(3):
        await kit.crash_worker()
        kit.clock.advance(31)
    await kit.run_until_idle()
    kit.assert_dead(handle, "WorkerLost")


async def test_a_crash_without_a_task_is_a_mistake_of_the_test(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def ship(order: int) -> None: ...

    await ship.options(delay=60).enqueue(7)
    with pytest.raises(AssertionError, match=r"no task was ready.*\n  ship\(order=7\) is scheduled"):
        await kit.crash_worker()


async def test_what_is_enqueued_can_be_read_with_its_arguments(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def ship(order: UUID, to: str = "nobody") -> None: ...

    @app.task()
    async def bill() -> None: ...

    order = UUID(int=7)
    await ship.options(priority=5).enqueue(order)
    await ship.options(delay=60).enqueue(order, to="a@example.org")
    await bill.enqueue()
    first, second = kit.enqueued(ship)
    assert (first.arguments, first.priority, first.due_in) == ({"order": order}, 5, 0)
    assert (second.arguments["to"], second.state) == ("a@example.org", TaskState.SCHEDULED)
    assert 59 < second.due_in <= 60
    assert [each.task for each in kit.enqueued()] == ["ship", "ship", "bill"]
    assert kit.enqueued("nobody") == []
    assert kit.assert_enqueued(ship, to="a@example.org").id == second.id
    with pytest.raises(AssertionError, match=r"0 of ship with .*'to': 'else'.*\n  ship\(order=UUID"):
        kit.assert_enqueued(ship, to="else")
    with pytest.raises(AssertionError, match="2 of ship"):
        kit.assert_enqueued(ship, order=order)


async def test_a_failed_assertion_tells_what_happened(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def ship(order: int) -> None:
        raise Dead("no such address")

    handle = await ship.enqueue(7)
    with pytest.raises(AssertionError, match=r"not succeeded:\n  ship\(order=7\) is ready"):
        kit.assert_succeeded(handle)
    with pytest.raises(AssertionError, match="not dead:"):
        kit.assert_dead(handle)
    await kit.run_until_idle()
    with pytest.raises(AssertionError, match=r"ship\(order=7\) is dead: Dead: no such address"):
        kit.assert_succeeded(handle)
    assert kit.assert_dead(handle, "no such address").attempts == 1
    assert [each.arguments for each in kit.dead] == [{"order": 7}]


async def test_the_traceback_of_a_failure_is_shown(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def ship() -> None:
        raise ValueError("no stock")

    handle = await ship.options(retry=0).enqueue()
    await kit.run_until_idle()
    with pytest.raises(AssertionError, match=r'test_kit.py", line \d+, in ship\n'):
        kit.assert_succeeded(handle)


async def test_tasks_that_never_end_are_named(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @app.task()
    async def quick() -> None: ...

    handle = await sleep.enqueue(3600)
    await quick.enqueue()
    with pytest.raises(AssertionError, match=r"after 0.1 s these ran still.*\n  sleep\(seconds=3600.0\) attempt 1"):
        await kit.run_until_idle(within=0.1)
    assert handle.id in {each.id for each in kit.enqueued() if each.state is TaskState.RUNNING}


async def test_a_running_task_can_be_cancelled(app: Stoker, kit: testing.Kit) -> None:
    stopped: list[bool] = []

    @app.task()
    async def long() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.append(True)

    @app.task()
    async def stop(task_id: str) -> None:
        await app.client.inspector.cancel("default", [task_id])

    await stop.enqueue((await long.enqueue()).id)
    runs = await kit.run_until_idle()
    assert [(run.task, run.outcome) for run in runs] == [("long", "cancelled"), ("stop", "succeeded")]
    assert stopped == [True]


async def test_a_rate_limit_goes_by_the_tests_clock(app: Stoker, server: testing.Server) -> None:
    async with testing.run(app, server, rate_limit=RateLimit(10, 10)) as kit:

        @app.task()
        async def call() -> None: ...

        await app.enqueue_many([call.options().prepare() for _ in range(25)])
        assert len(await kit.run_until_idle()) == 10
        kit.clock.advance(1)
        assert len(await kit.run_until_idle()) == 10
        kit.clock.advance(0.25)
        assert len(await kit.run_until_idle()) in (2, 3, 4)  # the clock catches up with the milliseconds of the test itself


async def test_concurrency_keys_hold(app: Stoker, kit: testing.Kit) -> None:
    running: list[int] = []
    most: list[int] = []

    @app.task(concurrency=Concurrency("one at a time"))
    async def alone(number: int) -> None:
        running.append(number)
        most.append(len(running))
        await asyncio.sleep(0)
        running.remove(number)

    await app.enqueue_many([alone.options().prepare(number) for number in range(5)])
    assert len(await kit.run_until_idle()) == 5
    assert max(most) == 1


async def test_urgent_tasks_go_first(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def mail(name: str) -> None: ...

    await mail.enqueue("plain")
    await mail.options(priority=9).enqueue("urgent")
    assert [run.arguments["name"] for run in await kit.run_until_idle()] == ["urgent", "plain"]


async def test_schedules_go_by_the_tests_clock(app: Stoker, server: testing.Server) -> None:
    @app.task(schedule=cron("0 3 * * *"))
    async def nightly() -> None: ...

    async with testing.run(app, server) as kit:
        kit.clock.move_to(datetime(2031, 5, 1, 2, 59, tzinfo=UTC))
        await kit.run_until_idle()
        ran = kit.runs.copy()
        kit.clock.advance(60)
        assert [run.task for run in await kit.run_until_idle()] == ["nightly"]
        assert await kit.run_until_idle() == []
        kit.clock.advance(timedelta(days=1))
        assert [run.task for run in await kit.run_until_idle()] == ["nightly"]
    assert len(ran) <= 1  # of the years between


async def test_a_schedule_counts_from_the_beginning_of_the_test(app: Stoker, server: testing.Server) -> None:
    @app.task(schedule=every(3600))
    async def hourly() -> None: ...

    async with testing.run(app, server) as kit:
        kit.clock.advance(3601)
        assert [run.task for run in await kit.run_until_idle()] == ["hourly"]


async def test_time_may_pass_from_one_due_moment_to_the_next(app: Stoker, server: testing.Server) -> None:
    seen: list[tuple[str, float]] = []

    def note(name: str) -> None:
        seen.append((name, round(kit.clock() - began, 1)))

    @app.task(schedule=every(3600))
    async def hourly() -> None:
        note("hourly")

    @app.task(retry=Retry(max_retries=3, initial_delay=60, multiplier=2, jitter=Jitter.NONE))
    async def flaky(ctx: Context) -> None:
        note("flaky")
        if ctx.attempt < 3:
            raise ConnectionError("not yet")

    @app.task()
    async def lost() -> None:
        note("lost")

    async with testing.run(app, server) as kit:
        began = kit.clock()
        await lost.enqueue()
        await kit.crash_worker()
        await flaky.enqueue()
        runs = await kit.run_for(timedelta(hours=2, minutes=59))
        assert kit.clock() == pytest.approx(began + 3 * 3600 - 60, abs=1)
    assert [(name, pytest.approx(at, abs=1)) for name, at in seen if name != "hourly"] == [
        ("flaky", 0),
        ("lost", 30),
        ("flaky", 60),
        ("flaky", 180),
    ]
    assert [name for name, _ in seen].count("hourly") in (2, 3)
    assert len(runs) == len(seen)


async def test_a_rate_limit_lets_all_go_in_its_time(app: Stoker, server: testing.Server) -> None:
    async with testing.run(app, server, rate_limit=RateLimit(10, 10)) as kit:

        @app.task()
        async def call() -> None: ...

        await app.enqueue_many([call.options().prepare() for _ in range(25)])
        assert len(await kit.run_for(5)) == 25


async def test_chains_and_groups_run_to_their_end_across_queues(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def fetch(page: int) -> int:
        return page

    @app.task(queue="words")
    async def double(number: int) -> int:
        return number * 2

    @app.task(queue="totals")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    pages = [chain(fetch.prepare(page), double.piped()) for page in (1, 2, 3)]
    handle = await chain(group(*pages), total.piped()).enqueue()
    runs = await kit.run_until_idle()
    assert (runs[-1].task, runs[-1].result) == ("total", 12)
    assert len(runs) == 7
    assert await handle.result(timeout=5) == 12


async def test_a_paused_queue_stays_as_it_is(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def ship() -> None: ...

    await ship.enqueue()
    await app.client.inspector.pause("default")
    assert await kit.run_until_idle() == []
    await app.client.inspector.resume("default")
    assert len(await kit.run_until_idle()) == 1


async def test_plain_tasks_run_in_threads_as_ever(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    def knead(seconds: float) -> str:
        time.sleep(seconds)
        return "dough"

    handle = await knead.enqueue(0.02)
    await kit.run_until_idle()
    assert kit.assert_succeeded(handle) == "dough"


async def test_process_tasks_run_in_processes_where_they_find_the_application(server: testing.Server) -> None:
    async with testing.run(oven.app, server) as kit:
        handle = await oven.bake.enqueue(3)
        await kit.run_until_idle()
        number, pid = kit.assert_succeeded(handle)
    assert number == 3
    assert pid != os.getpid()


async def test_an_unknown_task_is_set_aside_until_a_worker_knows_it(app: Stoker, kit: testing.Kit) -> None:
    [receipt] = await app.enqueue_many([TaskCall("of_the_next_version", "default")])
    [run] = await kit.run_until_idle()
    assert (run.task, run.outcome) == ("of_the_next_version", "unclaimed")
    assert await kit.run_for(86400) == []

    @app.task()
    async def of_the_next_version() -> None: ...

    await kit.run_until_idle()
    assert (await app.client.status("default", receipt.id)).state is TaskState.SUCCEEDED


async def get_session() -> AsyncIterator[str]:
    raise ConnectionError("there is no database in tests")
    yield ""


async def test_dependencies_can_be_replaced(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def ship(db: Annotated[str, Depends(get_session)]) -> str:
        return db

    handle = await ship.enqueue()
    with kit.override(get_session, lambda: "a fake"):
        await kit.run_until_idle()
    assert kit.assert_succeeded(handle) == "a fake"
    assert app.dependency_overrides == {}


async def test_the_lifespan_is_entered_with_the_first_run_and_left_at_the_end(server: testing.Server) -> None:
    diary: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Stoker) -> AsyncIterator[list[str]]:
        diary.append("open")
        yield diary
        diary.append("close")

    app = Stoker("shop", lifespan=lifespan)

    @app.task()
    async def ship(order: int, log: State[list]) -> None:  # type: ignore[type-arg]
        log.append(f"ship {order}")

    async with testing.run(app, server) as kit:
        await ship.enqueue(1)
        assert diary == []
        await kit.run_until_idle()
        await ship.enqueue(2)
        await kit.run_until_idle()
    assert diary == ["open", "ship 1", "ship 2", "close"]


async def test_a_task_cannot_turn_the_crank(app: Stoker, kit: testing.Kit) -> None:
    @app.task()
    async def impatient() -> None:
        await kit.run_until_idle()

    handle = await impatient.options(retry=0).enqueue()
    await kit.run_until_idle()
    kit.assert_dead(handle, "a task cannot have the kit run tasks")


async def test_a_task_that_lets_time_pass_keeps_its_lease(app: Stoker, kit: testing.Kit) -> None:
    """A live worker's long task is never taken away."""

    @app.task()
    async def long(ctx: Context) -> int:
        for _ in range(10):
            kit.clock.advance(20)
            await asyncio.sleep(0.01)
        return ctx.attempt

    handle = await long.enqueue()
    await kit.run_until_idle()
    assert kit.assert_succeeded(handle) == 1


async def test_every_kit_finds_an_empty_server_and_leaves_the_application_as_it_was(app: Stoker, server: testing.Server) -> None:
    @app.task()
    async def ship() -> None: ...

    for _ in range(2):
        async with testing.run(app, server) as kit:
            assert kit.enqueued() == []
            assert abs(kit.clock() - time.time()) < 1
            await ship.enqueue()
            kit.clock.advance(3600)
            assert scripts.REDIS_TIME not in scripts.load("fetch").text
    assert scripts.REDIS_TIME in scripts.load("fetch").text
    assert app.redis_url == "redis://production.example.org:6379/0"
    assert app.namespace == "stoker"


async def test_two_applications_share_a_server_and_its_clock(app: Stoker, kit: testing.Kit, server: testing.Server) -> None:
    @app.task()
    async def ship() -> None: ...

    await ship.options(delay=60).enqueue()
    async with testing.run(Stoker("billing"), server) as other:
        other.clock.advance(60)
        assert len(kit.enqueued()) == 1
    assert [run.task for run in await kit.run_until_idle()] == ["ship"]


async def test_without_a_server_it_starts_one(app: Stoker) -> None:
    @app.task()
    async def ship() -> None: ...

    async with testing.run(app, lease=Lease(Duration(5))) as kit:
        await ship.enqueue()
        assert len(await kit.run_until_idle()) == 1


async def test_a_test_costs_a_few_commands(app: Stoker, server: testing.Server) -> None:
    """No waiting is done by asking again and again."""

    @app.task()
    async def ship(order: int) -> None: ...

    async def once() -> int:
        before = observer.info("stats")["total_commands_processed"]
        async with testing.run(app, server) as kit:
            handle = await ship.enqueue(7)
            await kit.run_until_idle()
            kit.assert_succeeded(handle)
        return int(observer.info("stats")["total_commands_processed"] - before)

    with Redis.from_url(server.url) as observer:
        await once()  # the server learns the scripts
        assert await once() < 300  # scripts' own calls count, too
