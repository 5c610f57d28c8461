"""A task that was lost with its worker may be what killed it: it must not take innocent neighbours along."""

from stoker.queue.records import Delivery
from stoker.rules.settle import Release, Retry, Snooze, Succeed
from tests.engine.line import FAILURE, LEASE, Line


async def crash(line: Line) -> None:
    """Every worker dies, and the reaper comes."""
    await line.pass_time(LEASE + 1)
    await line.broker.reap()


async def test_a_worker_that_holds_a_suspect_gets_no_other(line: Line) -> None:
    await line.enqueue("a", "b")
    await line.fetch()
    await crash(line)
    await line.enqueue("c")
    assert [d.id for d in await line.fetch(holds_suspect=True)] == ["c"]
    assert [d.id for d in await line.fetch(worker="other")] == ["a"]
    assert [d.id for d in await line.fetch(worker="third")] == ["b"]


async def test_only_the_culprit_is_buried(line: Line) -> None:
    """A task that kills whoever runs it is lost three times; nobody who shared a worker with it is."""
    innocents = [f"innocent-{n}" for n in range(6)]
    await line.enqueue(*innocents[:3], "culprit", *innocents[3:])
    for _ in range(20):
        held: list[Delivery] = []
        while taken := await line.fetch(2, holds_suspect=any(d.losses for d in held)):
            held += taken
            if any(d.id == "culprit" for d in held):
                break
        if any(d.id == "culprit" for d in held):
            await crash(line)  # all of them go with it
            continue
        for delivery in held:
            assert await line.settle(delivery, Succeed(b"null"))
        if not held:
            break
    assert (await line.status("culprit")).state == "dead"
    assert [(await line.status(name)).state for name in innocents] == ["succeeded"] * 6


async def test_a_suspect_keeps_its_priority_and_its_position(line: Line) -> None:
    await line.enqueue("low", priority=-1)
    await line.enqueue("lost")
    await line.fetch(1)
    await crash(line)
    await line.enqueue("late")
    await line.enqueue("urgent", priority=9)
    assert await line.order() == ["urgent", "lost", "late", "low"]


async def test_a_suspect_beyond_the_room_waits_for_its_turn(line: Line) -> None:
    await line.enqueue("lost", priority=-5)
    await line.fetch(1)
    await crash(line)
    await line.enqueue("a", "b", "c")
    assert await line.order(2) == ["a", "b"]
    assert await line.order(2) == ["c", "lost"]


async def test_a_suspect_stays_one_until_it_has_succeeded(line: Line) -> None:
    await line.enqueue("a")
    await line.fetch()
    await crash(line)
    for end in (Release(), Retry(0, FAILURE), Snooze(1)):
        [delivery] = await line.fetch()
        assert delivery.losses == 1
        await line.settle(delivery, end)
        await line.check()
        await line.pass_time(2)
    [delivery] = await line.fetch()
    await line.settle(delivery, Succeed(b"null"))


async def test_suspects_count_as_ready(line: Line) -> None:
    await line.enqueue("a", "b")
    await line.fetch()
    await crash(line)
    stats = await line.stats()
    assert (stats.ready, stats.running) == (2, 0)
    assert stats.oldest_wait > 30
    assert (await line.status("a")).state == "ready"
