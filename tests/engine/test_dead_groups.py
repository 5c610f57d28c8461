"""Dead tasks in groups: by the fingerprint of their failure, as many as are dead now."""

import msgspec
import pytest

from stoker.queue.reads import dead_groups
from stoker.queue.reads.dead_groups import MOST_EXAMPLES, groups_of
from stoker.rules.settle import Bury, Failure
from tests.engine.line import LEASE, QUEUE, Line, now


def failure(order: int) -> Failure:
    return Failure("ValueError", f"order {order}", "Traceback ...", "ValueError in shop.ship: order #")


async def die(line: Line, *ids: str, of: Failure) -> None:
    await line.enqueue(*ids)
    for delivery in await line.fetch(len(ids)):
        assert await line.settle(delivery, Bury(of))
        await line.pass_time(1)


async def counts(line: Line) -> dict[str, int]:
    return {group.fingerprint: group.count for group in await line.inspector.dead_groups(QUEUE)}


async def test_the_groups_of_the_dead(line: Line) -> None:
    for order in range(5):
        await die(line, f"order-{order}", of=failure(order))
    await die(line, "odd-1", of=Failure("TypeError", "no 'anna'"))
    await die(line, "odd-2", of=Failure("TypeError", "no 'bo'"))
    orders, odd = await line.inspector.dead_groups(QUEUE)
    assert (orders.fingerprint, orders.type, orders.count) == ("ValueError in shop.ship: order #", "ValueError", 5)
    assert orders.examples == ["order-4", "order-3", "order-2"]
    assert len(orders.examples) == MOST_EXAMPLES
    statuses = [await line.status(f"order-{order}") for order in (0, 4)]
    assert [orders.first, orders.last] == [status.at for status in statuses]
    assert (odd.fingerprint, odd.count) == ("TypeError: no '?'", 2), "one of no exception has the fingerprint of its words"


async def test_the_counts_follow_the_dead(line: Line) -> None:
    ids = [f"{number}" for number in range(6)]
    for number, task_id in enumerate(ids):
        await die(line, task_id, of=failure(number))
    assert await counts(line) == {"ValueError in shop.ship: order #": 6}
    await line.inspector.redrive(QUEUE, ids[:2])
    await line.inspector.delete(QUEUE, ids[2:3])
    assert await counts(line) == {"ValueError in shop.ship: order #": 3}
    await line.pass_time(86400)
    await line.broker.sweep()
    assert await counts(line) == {}


async def test_what_was_lost_too_often_has_a_group(line: Line) -> None:
    await line.enqueue("a")
    for _ in range(3):
        await line.fetch(1)
        await line.pass_time(LEASE + 1)
        await line.broker.reap()
    [group] = await line.inspector.dead_groups(QUEUE)
    assert (group.type, group.count, group.examples) == ("WorkerLost", 1, ["a"])


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'{"type": 5}', msgspec.json.encode(Failure("X", "y", "", "z" * 100_000))])
async def test_what_another_program_wrote_is_clamped(line: Line, body: bytes) -> None:
    await die(line, "a", of=failure(1))
    await now(line.redis.hset(line.keys.errors, "a", body))
    [group] = await line.inspector.dead_groups(QUEUE)
    assert group.count == 1
    assert len(group.fingerprint) <= 300


async def test_pages(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that dies while the pages are read, and moves another to the next page, is not counted twice."""
    monkeypatch.setattr(dead_groups, "READ_AT_ONCE", 2)
    for number in range(5):
        await die(line, f"{number}", of=failure(number))
    assert list((await counts(line)).values()) == [5]
    tasks = await dead_groups.read_dead(line.redis, line.keys)
    assert [group.count for group in groups_of([*tasks, tasks[0]])] == [5]
    monkeypatch.setattr(dead_groups, "MOST_READ", 4)
    assert list((await counts(line)).values()) == [4]
