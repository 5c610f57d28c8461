"""Standing in line: strict priority, first come first served within it, later for those who said so."""

import asyncio
import time

import pytest

from stoker.errors import Conflict
from stoker.queue.broker import ENQUEUED_AT_ONCE
from stoker.queue.records import receipts
from stoker.redis.connect import connect
from stoker.rules.admission import Admission
from stoker.rules.states import TaskState
from tests.engine.line import DONE, Line, message, now

pytestmark = pytest.mark.every_server


async def test_first_come_first_served_whatever_the_ids(line: Line) -> None:
    """Own ids say nothing about order, and a batch has one millisecond for all."""
    ids = ["zebra", "ant", "Mole", "9", "bee", "~", "!"]
    await line.enqueue(*ids[:5])
    await line.enqueue(*ids[5:])
    assert await line.order() == ids


async def test_a_batch_larger_than_a_call_keeps_its_order(line: Line) -> None:
    ids = [f"{number * 7919 % 100_000}" for number in range(2 * ENQUEUED_AT_ONCE + 50)]
    receipts = await line.enqueue(*ids)
    assert [receipt.id for receipt in receipts] == ids
    assert await line.order(200) + await line.order(200) + await line.order(200) == ids


async def test_a_higher_priority_always_goes_first(line: Line) -> None:
    for priority in (0, -100, 5, 100, -1, 5):
        await line.enqueue(f"a{priority}-{time.monotonic_ns()}", priority=priority)
    taken = await line.order()
    assert [int(task_id[1:].rpartition("-")[0]) for task_id in taken] == [100, 5, 5, 0, -1, -100]
    assert taken[1] < taken[2]


async def test_a_late_urgent_task_overtakes_an_old_one(line: Line) -> None:
    await line.enqueue("old", priority=1)
    await line.pass_time(86400)
    await line.enqueue("urgent", priority=2)
    assert await line.order() == ["urgent", "old"]


async def test_a_delayed_task_waits(line: Line) -> None:
    [receipt] = await line.enqueue("later", delay=60)
    assert receipt.state is TaskState.SCHEDULED
    await line.enqueue("now")
    assert await line.order() == ["now"]
    await line.pass_time(59)
    assert await line.order() == []
    await line.pass_time(1.1)
    assert await line.order() == ["later"]


async def test_a_delayed_task_keeps_its_priority(line: Line) -> None:
    await line.enqueue("urgent", priority=7, delay=10)
    await line.enqueue("meek", priority=-7, delay=9)
    await line.enqueue("plain")
    await line.pass_time(11)
    assert await line.order() == ["urgent", "plain", "meek"]


async def test_what_fell_due_stands_where_its_time_puts_it(line: Line) -> None:
    await line.enqueue("due in 5", delay=5)
    await line.enqueue("due in 3", delay=3)
    await line.pass_time(4)
    await line.enqueue("after 4")
    await line.pass_time(4)
    assert await line.order() == ["due in 3", "after 4", "due in 5"]


@pytest.mark.parametrize(
    ("offset", "state"), [pytest.param(60, TaskState.SCHEDULED, id="ahead"), pytest.param(-60, TaskState.READY, id="in the past")]
)
async def test_a_task_for_a_moment(line: Line, offset: float, state: TaskState) -> None:
    [receipt] = await line.enqueue("then", run_at=time.time() + offset)
    assert receipt.state is state
    assert (await line.status("then")).state is state


async def test_the_same_task_again_is_left_alone(line: Line) -> None:
    await line.enqueue("order-42", priority=3)
    [again] = await line.enqueue("order-42", priority=9, delay=60)
    assert (again.duplicate, again.state) == (True, None)
    assert (await line.status("order-42")).priority == 3
    assert await line.order() == ["order-42"]


async def test_an_id_stays_taken_while_its_task_runs_and_while_its_result_is_kept(line: Line) -> None:
    await line.enqueue("order-42")
    [delivery] = await line.fetch()
    assert (await line.enqueue("order-42"))[0].duplicate
    await line.settle(delivery, DONE)
    assert (await line.enqueue("order-42"))[0].duplicate
    assert await line.order() == []


async def test_another_task_under_the_same_id_is_a_conflict_and_the_others_go_in(line: Line) -> None:
    await line.enqueue("b")
    answers = await line.broker.enqueue([Admission(message("a")), Admission(message("b", x=1)), Admission(message("c"))])
    with pytest.raises(Conflict, match="'b'"):
        receipts(answers)
    assert await line.order() == ["b", "a", "c"]


async def test_every_admission_has_its_own_answer(line: Line) -> None:
    await line.enqueue("b")
    taken, conflict, delayed = await line.broker.enqueue(
        [Admission(message("a")), Admission(message("b", x=1)), Admission(message("c"), 5)]
    )
    assert isinstance(conflict, Conflict)
    assert not isinstance(taken, Conflict)
    assert not isinstance(delayed, Conflict)
    assert (taken.state, delayed.state) == (TaskState.READY, TaskState.SCHEDULED)


async def test_the_same_id_twice_in_one_batch_is_one_task(line: Line) -> None:
    first, second = await line.enqueue("x", "x")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert await line.order() == ["x"]


async def test_nothing_is_no_task(line: Line) -> None:
    assert await line.enqueue() == []


async def test_a_worker_never_gets_more_than_it_has_room_for(line: Line) -> None:
    await line.enqueue(*map(str, range(10)))
    assert len(await line.fetch(3)) == 3
    assert len(await line.fetch(0)) == 0
    assert len(await line.fetch(1)) == 1
    assert len(await line.fetch(100)) == 6


async def test_no_task_is_handed_out_twice_to_workers_that_fetch_at_once(line: Line) -> None:
    ids = [str(number) for number in range(500)]
    await line.enqueue(*ids)
    taken = await asyncio.gather(*(line.fetch(7, f"w{number % 10}") for number in range(100)))
    deliveries = [delivery for part in taken for delivery in part]
    assert sorted(delivery.id for delivery in deliveries) == sorted(ids)
    assert len({delivery.fence for delivery in deliveries}) == len(ids)


async def test_fences_grow_with_every_delivery(line: Line) -> None:
    await line.enqueue("a", "b", "c")
    fences = [delivery.fence for _ in range(3) for delivery in await line.fetch(1)]
    assert fences == sorted(fences)


async def test_a_delivery_knows_how_long_it_waited(line: Line) -> None:
    await line.enqueue("a")
    await line.pass_time(12)
    [delivery] = await line.fetch()
    assert 12 <= delivery.waited < 20


async def test_a_paused_queue_hands_out_nothing(line: Line) -> None:
    await line.enqueue("a")
    await now(line.redis.hset(line.keys.meta, "paused", "1"))
    turn = await line.broker.turn([], 5, "w")
    assert (turn.paused, turn.deliveries) == (True, [])
    assert (await line.stats()).paused
    assert (await line.beat()).paused
    await now(line.redis.hdel(line.keys.meta, "paused"))
    assert await line.order() == ["a"]


async def test_promoting_says_when_the_next_task_falls_due(line: Line) -> None:
    assert (await line.broker.promote())[1] is None
    await line.enqueue("later", delay=60)
    back_in = (await line.broker.promote())[1]
    assert back_in is not None
    assert 50 < back_in <= 60


async def test_due_tasks_become_ready_without_any_worker(line: Line) -> None:
    await line.enqueue(*(f"t{number}" for number in range(150)), delay=1)
    await line.pass_time(2)
    assert [(await line.broker.promote(100))[0] for _ in range(3)] == [100, 50, 0]
    assert (await line.stats()).ready == 150


@pytest.mark.parametrize("count", [1, 5])
async def test_there_is_at_most_one_token_to_wake_a_worker(line: Line, count: int) -> None:
    for number in range(count):
        await line.enqueue(f"t{number}")
    assert await line.broker.wait_for_work(1)
    assert not await line.broker.wait_for_work(0.01)


async def test_a_delayed_task_wakes_no_worker_before_it_is_due(line: Line) -> None:
    await line.enqueue("later", delay=5)
    assert not await line.broker.wait_for_work(0.01)
    await line.pass_time(6)
    await line.broker.promote()
    assert await line.broker.wait_for_work(1)


async def test_a_worker_that_leaves_work_behind_wakes_the_next(line: Line) -> None:
    await line.enqueue("a", "b")
    assert await line.broker.wait_for_work(1)
    await line.fetch(1)
    assert await line.broker.wait_for_work(1), "there is more than this worker could hold"


async def test_an_enqueue_wakes_a_worker_that_blocks(line: Line) -> None:
    blocked = asyncio.create_task(line.broker.wait_for_work(5))
    await line.enqueue("a")
    assert await blocked


async def test_two_queues_do_not_meet(line: Line, redis_url: str) -> None:
    from stoker.queue.broker import Broker
    from stoker.queue.keys import Keys
    from stoker.rules.admission import Admission

    await line.enqueue("a")
    redis = connect(redis_url)
    other = Broker(redis, Keys("test", "sms"))
    await other.enqueue([Admission(message("a", x=1))])
    await other.register()
    await line.broker.register()
    await redis.aclose()
    assert await line.inspector.queues() == ["emails", "sms"]
    assert await line.order() == ["a"]
