"""What a look at a queue tells."""

import pytest

from stoker.errors import NotFound
from stoker.rules.states import TaskState
from tests.engine.line import DONE, Line


async def test_an_empty_queue(line: Line) -> None:
    stats = await line.stats()
    assert (stats.ready, stats.running, stats.scheduled, stats.oldest_wait, stats.completion_rate) == (0, 0, 0, 0, 0)


async def test_the_oldest_wait_looks_at_every_priority(line: Line) -> None:
    await line.enqueue("old and meek", priority=-50)
    await line.pass_time(100)
    await line.enqueue("middling")
    await line.pass_time(10)
    await line.enqueue("young and urgent", priority=50)
    assert (await line.stats()).oldest_wait == pytest.approx(110, abs=5)
    assert await line.order(2) == ["young and urgent", "middling"]
    assert (await line.stats()).oldest_wait == pytest.approx(110, abs=5)
    assert await line.order(1) == ["old and meek"]
    assert (await line.stats()).oldest_wait == 0


async def test_what_is_due_within_a_horizon(line: Line) -> None:
    await line.enqueue("soon", delay=5)
    await line.enqueue("later", delay=50)
    assert [(await line.stats(horizon)).due for horizon in (0, 10, 60)] == [0, 1, 2]
    await line.pass_time(6)
    assert (await line.stats()).due == 1


async def complete(line: Line, count: int) -> None:
    start = await line.clock()
    await line.enqueue(*(f"{start}-{number}" for number in range(count)))
    for delivery in await line.fetch(count):
        await line.settle(delivery, DONE)


async def test_the_completion_rate_rises_with_work_and_decays_without(line: Line) -> None:
    await complete(line, 50)
    busy = (await line.stats()).completion_rate
    assert 5 < busy <= 10
    await line.pass_time(5)
    later = (await line.stats()).completion_rate
    assert later == pytest.approx(busy / 2.718, rel=0.3)
    await line.pass_time(60)
    assert (await line.stats()).completion_rate == pytest.approx(0, abs=0.01)


async def test_looking_changes_nothing(line: Line) -> None:
    await complete(line, 3)
    await line.enqueue("a", "b")
    before = await line.stats()
    for _ in range(3):
        await line.status("a")
        await line.inspector.tasks("emails", TaskState.READY)
        await line.stats()
    after = await line.stats()
    assert (after.ready, after.succeeded, after.totals) == (before.ready, before.succeeded, before.totals)


async def test_ready_tasks_are_listed_in_the_order_they_will_run(line: Line) -> None:
    await line.enqueue("b", "a")
    await line.enqueue("urgent", priority=1)
    assert [task.id for task in (await line.inspector.tasks("emails", TaskState.READY)).tasks] == ["urgent", "b", "a"]


async def test_a_task_is_found_in_whichever_queue_it_is(line: Line) -> None:
    await line.broker.register()
    await line.enqueue("a")
    assert (await line.inspector.find("a")).queue == "emails"
    with pytest.raises(NotFound, match="nobody"):
        await line.inspector.find("nobody")
