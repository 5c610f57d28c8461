"""The dead letters: looked at, given another life, thrown away, and forgotten in the end."""

import pytest

from stoker.errors import NotFound
from stoker.manifest.policies import Keep
from stoker.rules.settle import Bury, Retry
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from tests.engine.line import DONE, FAILURE, Line, open_line


async def bury(line: Line, *ids: str, priority: int = 0) -> None:
    await line.enqueue(*ids, priority=priority)
    for delivery in await line.fetch():
        assert await line.settle(delivery, Bury(FAILURE))


async def test_newest_first_page_by_page(line: Line) -> None:
    for number in range(5):
        await bury(line, f"d{number}")
        await line.pass_time(1)
    first = await line.inspector.tasks("emails", TaskState.DEAD, limit=3)
    assert [task.id for task in first.tasks] == ["d4", "d3", "d2"]
    assert first.cursor is not None
    rest = await line.inspector.tasks("emails", TaskState.DEAD, first.cursor, limit=3)
    assert [task.id for task in rest.tasks] == ["d1", "d0"]
    assert rest.cursor is None


async def test_another_life_begins_with_fresh_attempts_and_keeps_the_history(line: Line) -> None:
    await line.enqueue("a", priority=6)
    for _ in range(2):
        [delivery] = await line.fetch()
        await line.settle(delivery, Retry(0, FAILURE))
    await line.fetch()
    await line.pass_time(31)
    await line.broker.reap()
    [delivery] = await line.fetch()
    assert delivery.attempt == 4
    await line.settle(delivery, Bury(FAILURE))

    await line.enqueue("plain")
    await line.pass_time(1)
    assert await line.inspector.redrive("emails", ["a"]) == ["a"]
    status = await line.status("a")
    assert (status.state, status.attempts, status.losses, status.failure) == (TaskState.READY, 0, 0, FAILURE)
    [again] = await line.fetch(1)
    assert (again.id, again.attempt) == ("a", 1)
    assert (await line.stats()).totals.redriven == 1


async def test_only_the_dead_are_redriven_or_deleted(line: Line) -> None:
    await bury(line, "dead")
    await line.enqueue("alive")
    assert await line.inspector.redrive("emails", ["alive", "nobody"]) == []
    assert await line.inspector.delete("emails", ["alive", "nobody"]) == []
    assert (await line.status("alive")).state is TaskState.READY
    assert (await line.status("dead")).state is TaskState.DEAD


async def test_a_redrive_wakes_a_worker(line: Line) -> None:
    await bury(line, "a")
    assert await line.broker.wait_for_work(1)
    await line.inspector.redrive("emails", ["a"])
    assert await line.broker.wait_for_work(1)


async def test_deleted_is_gone_and_its_id_free(line: Line) -> None:
    await bury(line, "a", priority=5)
    assert await line.inspector.delete("emails", ["a", "a"]) == ["a"]
    with pytest.raises(NotFound):
        await line.status("a")
    [receipt] = await line.enqueue("a")
    assert not receipt.duplicate


async def test_many_at_once(line: Line) -> None:
    ids = [f"d{number:03}" for number in range(100)]
    await bury(line, *ids)
    assert await line.inspector.redrive("emails", ids[:70]) == ids[:70]
    assert await line.inspector.delete("emails", ids) == ids[70:]


async def test_ended_tasks_are_forgotten_when_they_are_old(redis_url: str) -> None:
    kept_for = Keep(Duration(100))
    async with open_line(redis_url, succeeded=kept_for, dead=kept_for) as line:
        await bury(line, "dead", priority=1)
        await line.enqueue("done")
        [delivery] = await line.fetch()
        await line.settle(delivery, DONE)
        await line.pass_time(99)
        assert await line.broker.sweep() == (0, 0)
        await line.pass_time(1.1)
        assert await line.broker.sweep() == (1, 1)
        for task_id in ("done", "dead"):
            with pytest.raises(NotFound):
                await line.status(task_id)


async def test_ended_tasks_are_forgotten_when_they_are_many_oldest_first(redis_url: str) -> None:
    async with open_line(redis_url, succeeded=Keep(Duration(100), 2), dead=Keep(Duration(100), 1)) as line:
        for number in range(3):
            await bury(line, f"dead{number}")
            await line.enqueue(f"done{number}")
            [delivery] = await line.fetch()
            await line.settle(delivery, DONE)
            await line.pass_time(1)
        assert await line.broker.sweep() == (1, 2)
        assert (await line.inspector.tasks("emails", TaskState.DEAD)).tasks[0].id == "dead2"
        assert [task.id for task in (await line.inspector.tasks("emails", TaskState.SUCCEEDED)).tasks] == ["done2", "done1"]


async def test_a_sweep_is_bounded_and_goes_on_where_it_ended(redis_url: str) -> None:
    async with open_line(redis_url, dead=Keep(Duration(1000), 10)) as line:
        for start in range(0, 300, 100):
            await bury(line, *(f"d{number}" for number in range(start, start + 100)))
        assert [await line.broker.sweep() for _ in range(3)] == [(0, 200), (0, 90), (0, 0)]
