"""Concurrency keys in Redis: never more of one key than may run, and the next comes as soon as one ends, however it ends."""

import pytest

from stoker.queue.keys import Keys
from stoker.queue.reads.inspector import Cancellation
from stoker.rules.admission import Admission
from stoker.rules.concurrency import Limit
from stoker.rules.settle import Bury, Cancel, Release, Retry, Snooze, Transition
from stoker.rules.states import TaskState
from tests.engine.line import DONE, FAILURE, Line, message, now

ONE, TWO = Limit("customer:7", 1), Limit("customer:8", 2)


def parking(keys: Keys) -> tuple[str, ...]:
    return keys.limits, keys.running_by, keys.parked, keys.parked_by


async def woken(line: Line) -> bool:
    """Takes the wake token, if there is one."""
    return await now(line.redis.lpop(line.keys.wake)) is not None


async def test_a_limited_number_of_a_key_run_at_a_time(line: Line) -> None:
    await line.enqueue("a", "b", "c", limit=TWO)
    await line.enqueue("other")
    assert await line.order(3) == ["a", "b", "other"]
    assert await line.fetch() == []


async def test_keys_do_not_know_each_other(line: Line) -> None:
    """Also where one key is the beginning of another."""
    for number, key in enumerate(("a", "a ", "a:b", "ä", "a!")):
        await line.enqueue(f"{number}-1", f"{number}-2", limit=Limit(key, 1))
    assert await line.order() == ["0-1", "1-1", "2-1", "3-1", "4-1"]


@pytest.mark.parametrize("end", [DONE, Retry(0, FAILURE), Retry(9, FAILURE), Snooze(9), Bury(FAILURE), Cancel()], ids=repr)
async def test_the_next_comes_when_one_ends(line: Line, end: Transition) -> None:
    await line.enqueue("a", "b", "c", limit=ONE)
    [running] = await line.fetch()
    await woken(line)
    await line.settle(running, end)
    assert await woken(line), "nobody has to poll"
    assert await line.order() == ["b"]


async def test_a_released_task_is_before_those_that_came_later(line: Line) -> None:
    await line.enqueue("a", "b", limit=ONE)
    [running] = await line.fetch()
    await line.settle(running, Release())
    assert await line.order() == ["a"]
    assert (await line.stats()).parked == 1


async def test_parked_ones_come_by_priority_and_then_arrival(line: Line) -> None:
    await line.enqueue("running", limit=ONE)
    [running] = await line.fetch()
    await line.enqueue("later", "latest", limit=ONE)
    await line.enqueue("low", priority=-100, limit=ONE)
    await line.enqueue("high", priority=100, limit=ONE)
    assert await line.fetch() == []
    order = []
    while len(order) < 4:
        await line.settle(running, DONE)
        [running] = await line.fetch()
        order.append(running.id)
    assert order == ["high", "later", "latest", "low"]


async def test_a_dead_workers_slot_goes_to_the_next(line: Line) -> None:
    await line.enqueue("a", "b", limit=ONE)
    await line.fetch(worker="dies")
    await line.pass_time(31)
    await line.broker.reap()
    assert await line.order(5) == ["a"]
    assert (await line.stats()).parked == 1
    await line.pass_time(31)
    await line.broker.reap()
    await line.pass_time(31)
    [again] = await line.fetch()
    await line.settle(again, DONE)
    assert await line.order() == ["b"]


async def test_a_task_that_died_keeps_its_key_for_another_life(line: Line) -> None:
    await line.enqueue("a", "b", limit=ONE)
    [running] = await line.fetch()
    await line.settle(running, Bury(FAILURE))
    await line.fetch()
    await line.inspector.redrive("emails", ["a"])
    assert await line.fetch() == []
    assert (await line.stats()).parked == 1


async def test_people_see_a_parked_task_as_ready(line: Line) -> None:
    await line.enqueue("a", "b", limit=ONE)
    await line.fetch()
    status = await line.status("b")
    assert (status.state, status.parked) == (TaskState.READY, "customer:7")
    assert (await line.status("a")).parked is None
    page = await line.inspector.tasks("emails", TaskState.READY)
    assert [task.id for task in page.tasks] == ["b"]


async def test_parked_tasks_do_not_trigger_a_scale_up(line: Line) -> None:
    await line.enqueue(*(f"{number:02}" for number in range(20)), limit=TWO)
    await line.fetch(5)
    stats = await line.stats()
    assert (stats.ready, stats.parked, stats.running) == (0, 18, 2)


async def test_a_parked_task_can_be_cancelled(line: Line) -> None:
    await line.enqueue("a", "b", "c", limit=ONE)
    [running] = await line.fetch()
    assert await line.inspector.cancel("emails", ["b"]) == [Cancellation.CANCELLED]
    await line.settle(running, DONE)
    assert await line.order() == ["c"]


async def test_the_next_comes_when_the_one_that_was_promoted_is_cancelled(line: Line) -> None:
    await line.enqueue("a", "b", "c", limit=ONE)
    [running] = await line.fetch()
    await line.settle(running, DONE)
    await woken(line)
    await line.inspector.cancel("emails", ["b"])
    assert await woken(line)
    assert await line.order() == ["c"]


async def test_a_running_one_that_is_cancelled_makes_way(line: Line) -> None:
    await line.enqueue("a", "b", limit=ONE)
    [running] = await line.fetch()
    await line.inspector.cancel("emails", ["a"])
    assert await line.fetch() == []
    await line.settle(running, Cancel())
    assert await line.order() == ["b"]


@pytest.mark.parametrize("state", [TaskState.READY, TaskState.SCHEDULED, TaskState.DEAD])
async def test_purging_leaves_no_traces(line: Line, state: TaskState) -> None:
    await line.enqueue("running", "dies", limit=TWO)
    running, dies = await line.fetch()
    await line.settle(dies, Bury(FAILURE))
    await line.enqueue("a", "b", "c", "d", limit=TWO)
    await line.enqueue("later", delay=60, limit=TWO)
    await line.fetch(1)
    gone = [number async for number in line.inspector.purge("emails", state)]
    assert sum(gone) == {TaskState.READY: 3, TaskState.SCHEDULED: 1, TaskState.DEAD: 1}[state]
    await line.check()
    await line.settle(running, DONE)
    assert await line.order() == ([] if state is TaskState.READY else ["b"])


async def test_parking_many_leaves_room_for_others(line: Line) -> None:
    """A long line of one key does not keep the workers from what stands behind it."""
    await line.broker.enqueue([Admission(message(f"{number:04}"), limit=ONE) for number in range(450)])
    await line.enqueue("other")
    found, looks = await line.order(4), 1
    while "other" not in found:
        assert await woken(line), "there is more to look through"
        found += await line.order(3)
        looks += 1
    assert found == ["0000", "other"]
    assert looks <= 4
    assert (await line.stats()).parked == 449


async def test_a_repeated_enqueue_changes_nothing(line: Line) -> None:
    await line.enqueue("a", "b", limit=ONE)
    await line.fetch()
    [receipt] = await line.enqueue("b", limit=Limit("another", 1))
    assert receipt.duplicate
    assert (await line.status("b")).parked == "customer:7"


async def test_without_keys_nothing_is_kept(line: Line) -> None:
    await line.enqueue("a", "b")
    [delivery] = await line.fetch(1)
    await line.settle(delivery, Retry(0, FAILURE))
    assert not await now(line.redis.exists(*parking(line.keys)))


async def test_what_was_forgotten_leaves_no_key_behind(line: Line) -> None:
    await line.enqueue("a", "b", "c", limit=ONE)
    for end in (Bury(FAILURE), Bury(FAILURE), DONE):
        [delivery] = await line.fetch(1)
        await line.settle(delivery, end)
    await line.inspector.delete("emails", ["a"])
    await line.pass_time(2 * 86400)
    await line.broker.sweep()
    assert not await now(line.redis.exists(*parking(line.keys)))


OUT_OF_STEP = "concurrency out of step"


@pytest.mark.parametrize(
    ("damage", "more"),
    [
        ("a slot nobody uses", {"stale concurrency slot"}),
        ("a slot that is missing", {"parked, but its concurrency key has room"}),
        ("a turn that is missing", set()),
        ("a key that is gone", set()),
    ],
)
async def test_the_doctor_sets_keys_right(line: Line, damage: str, more: set[str]) -> None:
    await line.enqueue("a", "b", "c", limit=ONE)
    [running] = await line.fetch()
    k = line.keys
    match damage:
        case "a slot nobody uses":
            await line.settle(running, Snooze(60))
            await now(line.redis.zadd(k.running_by, {"customer:7\x1fa": 0}))
        case "a slot that is missing":
            await now(line.redis.delete(k.running_by))
        case "a turn that is missing":
            await now(line.redis.zremrangebyrank(k.parked_by, 0, 0))
        case _:
            await now(line.redis.hdel(k.limits, "b"))
            await now(line.redis.zremrangebyrank(k.parked_by, 0, 0))
    assert {finding.trouble for finding in await line.examine()} == {OUT_OF_STEP, *more}
    await line.examine(mend=True)
    assert await line.examine() == []
    await line.check()
