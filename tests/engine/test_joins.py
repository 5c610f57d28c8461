"""Items: what follows comes once, whoever tells it how often, and only from a delivery that counts."""

from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from stoker.manifest.policies import Keep
from stoker.queue.records import Delivery
from stoker.queue.scripts import run
from stoker.queue.settlements import Settlement
from stoker.queue.workflows.effects import Keyed, relay_call
from stoker.queue.workflows.outbox import Outbox
from stoker.rules.admission import Admission
from stoker.rules.effects import CompleteMember, Effect, EnqueueTask, OpenJoin, PutInOutbox, begin
from stoker.rules.message import MAX_PAYLOAD_BYTES, decode
from stoker.rules.settle import Bury, Retry, Succeed
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from stoker.rules.workflow import GroupStep, Member, Origin, OutboxEntry, TaskStep, number
from tests.engine.line import DONE, FAILURE, LEASE, QUEUE, Line, message, now, open_line

ORIGIN = Origin(1_800_000_000_000)


def child(task_id: str = "child") -> EnqueueTask:
    return EnqueueTask(QUEUE, Admission(message(task_id)))


async def settle(line: Line, delivery: Delivery, *items: Effect, value: bytes = b"null", transition: Any = None) -> bool:
    settlement = Settlement(delivery.id, delivery.fence, transition or Succeed(value), 0.0, items)
    return not (await line.broker.turn([settlement], 0, "w")).refused


async def relay(line: Line, *items: Effect, key: str = "key") -> list[int]:
    [fresh] = await run(line.redis, relay_call(line.keys, [Keyed(f"{key} {at}", item) for at, item in enumerate(items)]))
    return list(fresh)


def group_of(members: int, *, piped: bool = True) -> list[Effect]:
    """A join `sum` and its members `m.1`, `m.2` ..., as items."""
    link = TaskStep(message("", 0))
    steps = number((GroupStep(((link,),) * members), replace(link, into="numbers" if piped else None)), "m")
    return list(begin(OutboxEntry("key", ORIGIN, steps), lambda queue, _: queue))


def join_of(items: list[Effect]) -> str:
    return next(item.placeholder.id for item in items if isinstance(item, OpenJoin))


def arrival(delivery: Delivery, join: str, value: bytes) -> CompleteMember:
    return CompleteMember(Member(QUEUE, join, int(delivery.id.rpartition(".")[2]) - 1), Raw(value))


async def test_a_child_comes_with_the_success_of_its_parent(line: Line) -> None:
    await line.enqueue("parent")
    [parent] = await line.fetch()
    assert await settle(line, parent, child())
    assert await line.order() == ["child"]


async def test_a_stale_fence_has_no_children(line: Line) -> None:
    await line.enqueue("parent")
    [lost] = await line.fetch()
    await line.pass_time(LEASE + 1)
    await line.broker.reap()
    assert not await settle(line, lost, child(), PutInOutbox(QUEUE, OutboxEntry("key", ORIGIN)))
    assert await now(line.redis.xlen(line.keys.outbox)) == 0
    [again] = await line.fetch()
    assert again.id == "parent"
    assert await settle(line, again, child())
    assert not await settle(line, again, child("another")), "said twice, since the answer was lost"
    assert await line.order() == ["child"]


@pytest.mark.parametrize("transition", [Retry(0, FAILURE), Bury(FAILURE)], ids=repr)
async def test_who_has_not_succeeded_has_none(line: Line, transition: Any) -> None:
    await line.enqueue("parent")
    [parent] = await line.fetch()
    await settle(line, parent, child(), transition=transition)
    assert "child" not in await line.order()


async def test_a_join_runs_when_all_have_arrived_with_their_results_in_order(line: Line) -> None:
    items = group_of(3)
    join = join_of(items)
    await relay(line, *items)
    deliveries = await line.fetch()
    for delivery in reversed(deliveries):
        assert await line.stats()
        assert await settle(line, delivery, arrival(delivery, join, delivery.id[-1:].encode()))
    [joined] = await line.fetch()
    assert (joined.id, bytes(decode(joined.envelope).payload)) == (join, b'{"numbers":[1,2,3]}')
    for key in (line.keys.joins, line.keys.waiting, line.keys.arrivals, line.keys.members):
        assert not await now(line.redis.exists(key)), key


async def test_who_arrives_twice_is_counted_once(line: Line) -> None:
    items = group_of(2, piped=False)
    join = join_of(items)
    await relay(line, *items)
    first, second = await line.fetch()
    await settle(line, first)
    for _ in range(3):
        await relay(line, arrival(first, join, b"1"), key="")
        await run(line.redis, relay_call(line.keys, [Keyed("", arrival(first, join, b"1"))]))
    assert await line.order() == []
    await settle(line, second, arrival(second, join, b"2"))
    assert await line.order() == [join]
    await run(line.redis, relay_call(line.keys, [Keyed("", arrival(first, join, b"1"))]))
    assert await line.order() == [], "too late for everything"


async def test_what_was_relayed_is_remembered_when_the_task_is_forgotten(redis_url: str) -> None:
    async with open_line(redis_url, succeeded=Keep(Duration(0), 1000)) as line:
        assert await relay(line, child()) == [1]
        [delivery] = await line.fetch()
        await line.settle(delivery, DONE)
        assert await relay(line, child()) == [0]
        assert await line.order() == []
        await line.pass_time(601)
        await line.broker.sweep()
        assert not await now(line.redis.exists(line.keys.relayed))


async def test_an_entry_is_relayed_before_it_goes_and_may_be_relayed_again(line: Line) -> None:
    await line.enqueue("parent")
    [parent] = await line.fetch()
    link = TaskStep(message("far"))
    await settle(line, parent, PutInOutbox(QUEUE, OutboxEntry("key", ORIGIN, (link,))))
    assert (await line.stats()).ready == 1, "what was not relayed yet is demand: its worker may be gone, and was the last"
    outbox = Outbox(line.redis, line.keys)
    entries = await outbox.read()
    await outbox.relay(entries)
    assert await outbox.read() == []
    await outbox.relay(entries)
    assert await line.order() == ["far"]


@pytest.mark.parametrize("fate", ["cancelled", "discarded", "purged", "forgotten"])
async def test_a_member_that_is_gone_for_good_breaks_its_group(line: Line, fate: str) -> None:
    items = group_of(2)
    join = join_of(items)
    await relay(line, *items)
    first, second = await line.fetch()
    await settle(line, second, arrival(second, join, b"2"))
    if fate == "cancelled":
        await line.inspector.cancel(QUEUE, [first.id])
        await settle(line, first, transition=Retry(0, FAILURE))
    else:
        await settle(line, first, transition=Bury(FAILURE))
    match fate:
        case "discarded":
            await line.inspector.delete(QUEUE, [first.id])
        case "purged":
            assert [gone async for gone in line.inspector.purge(QUEUE, TaskState.DEAD)] == [1]
        case "forgotten":
            await line.pass_time(86401)
            await line.broker.sweep()
    outbox = Outbox(line.redis, line.keys)
    await outbox.relay(await outbox.read())
    status = await line.status(join)
    assert status.state is TaskState.DEAD
    assert status.failure is not None
    assert status.failure.type == "GroupBroken"
    assert first.id in status.failure.message
    assert not await now(line.redis.exists(line.keys.joins, line.keys.waiting, line.keys.arrivals, line.keys.members))


async def test_a_dead_member_may_yet_be_redriven(line: Line) -> None:
    items = group_of(1)
    join = join_of(items)
    await relay(line, *items)
    [member] = await line.fetch()
    await settle(line, member, transition=Bury(FAILURE))
    await line.inspector.redrive(QUEUE, [member.id])
    [again] = await line.fetch()
    await settle(line, again, arrival(again, join, b"1"))
    assert await line.order() == [join]


async def test_results_that_are_too_large_bury_the_join(line: Line) -> None:
    items = group_of(2)
    join = join_of(items)
    await relay(line, *items)
    for delivery in await line.fetch():
        await settle(line, delivery, arrival(delivery, join, b'"' + b"x" * (MAX_PAYLOAD_BYTES - 100) + b'"'))
    status = await line.status(join)
    assert status.failure is not None
    assert (status.state, status.failure.type) == (TaskState.DEAD, "ResultsTooLarge")
    assert await line.order() == []


async def test_ten_thousand_members(line: Line) -> None:
    """Begun and joined in bounded steps."""
    items = group_of(10_000)
    for at in range(0, len(items), 500):
        await relay(line, *items[at : at + 500], key=str(at))
    join, done = join_of(items), 0
    while deliveries := await line.fetch(200):
        ends = [
            Settlement(each.id, each.fence, Succeed(b"1"), 0.0, (arrival(each, join, b"1"),))
            for each in deliveries
            if each.id != join
        ]
        done += len(ends)
        assert not (await line.broker.turn(ends, 0, "w")).refused
        if deliveries[0].id == join:
            assert done == 10_000
            assert bytes(decode(deliveries[0].envelope).payload).count(b"1") == 10_000
            await line.settle(deliveries[0], DONE)
