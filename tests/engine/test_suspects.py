"""A task that was lost with its worker more than once may be what killed it: it must not take innocent neighbours along."""

from collections.abc import AsyncIterator

import pytest

from stoker.queue.records import Delivery, Holds
from stoker.rules.concurrency import Limit
from stoker.rules.losses import is_suspect
from stoker.rules.settle import Release, Retry, Snooze, Succeed
from tests.engine.line import FAILURE, LEASE, Line, now, open_line


@pytest.fixture
async def patient(redis_url: str) -> AsyncIterator[Line]:
    """A line where a suspect has lives left."""
    async with open_line(redis_url, max_lost=5) as line:
        yield line


async def crash(line: Line) -> None:
    """Every worker dies, and the reaper comes."""
    await line.pass_time(LEASE + 1)
    await line.broker.reap()


async def lose(line: Line, *ids: str, times: int = 2) -> None:
    """Each of these, with a worker of its own so that no other is charged."""
    await line.enqueue(*ids)
    for _ in range(times):
        for _ in ids:
            [delivery] = await line.fetch(1, "dies")
            assert delivery.id in ids
        await crash(line)


def held(deliveries: list[Delivery]) -> Holds:
    """What a worker with these says when it fetches."""
    if any(is_suspect(delivery.losses) for delivery in deliveries):
        return Holds.SUSPECT
    return Holds.TASKS if deliveries else Holds.NOTHING


async def test_one_loss_is_no_evidence(line: Line) -> None:
    """What a dead worker held runs again at once and in parallel, in its old order and with other tasks."""
    ids = [f"{number:02}" for number in range(16)]
    await line.enqueue(*ids)
    await line.fetch(16)
    await crash(line)
    await line.enqueue("new")
    deliveries = await line.fetch(20, "other")
    assert [delivery.id for delivery in deliveries] == [*ids, "new"]
    assert [delivery.losses for delivery in deliveries] == [1] * 16 + [0]


async def test_a_worker_that_holds_a_suspect_gets_no_other(patient: Line) -> None:
    await lose(patient, "a", "b")
    await patient.enqueue("c")
    assert [d.id for d in await patient.fetch(holds=Holds.SUSPECT)] == ["c"]
    assert [d.id for d in await patient.fetch(worker="other")] == ["a"]
    assert [d.id for d in await patient.fetch(worker="third")] == ["b"]


async def test_a_suspect_with_lives_left_runs_beside_others(patient: Line) -> None:
    await lose(patient, "a")
    await patient.enqueue("b")
    assert [d.id for d in await patient.fetch(holds=Holds.TASKS)] == ["a", "b"]


@pytest.mark.parametrize("max_lost", [2, 3, 5])
async def test_only_the_culprits_are_buried(redis_url: str, max_lost: int) -> None:
    """Two tasks that kill whoever runs them are lost until they are buried; nobody who shared a worker with them is."""
    innocents = [f"innocent-{number}" for number in range(14)]
    async with open_line(redis_url, max_lost=max_lost) as line:
        await line.enqueue(*innocents[:3], "poison-1", *innocents[3:9], "poison-2", *innocents[9:])
        for _ in range(60):
            mine: list[Delivery] = []
            while not any(delivery.last_life for delivery in mine) and (taken := await line.fetch(16, holds=held(mine))):
                mine += taken
            if not mine:
                break
            if any(delivery.id.startswith("poison") for delivery in mine):
                await crash(line)  # all of them go with it
                continue
            for delivery in mine:
                assert await line.settle(delivery, Succeed(b"null"))
        assert {(await line.status(name)).state for name in ("poison-1", "poison-2")} == {"dead"}
        assert {(await line.status(name)).state for name in innocents} == {"succeeded"}


async def test_a_task_on_its_last_life_comes_alone(line: Line) -> None:
    await lose(line, "a", "b")
    await line.enqueue("c")
    [delivery] = await line.fetch(10)
    assert (delivery.id, delivery.last_life) == ("a", True)


async def test_a_worker_that_holds_tasks_clears_for_it_and_the_others_work_on(line: Line) -> None:
    await lose(line, "suspect")
    await line.enqueue("a", "b")
    busy = await line.look(10, "busy", Holds.TASKS)
    assert (busy.deliveries, busy.clear) == ([], True), "it takes no more until it is empty"
    other = await line.look(1, "other", Holds.TASKS)
    assert ([d.id for d in other.deliveries], other.clear) == (["a"], False), "one that clears is enough"
    assert [d.id for d in await line.fetch(10, "busy")] == ["suspect"]
    assert [d.id for d in await line.fetch(10, "other", Holds.TASKS)] == ["b"]


async def test_another_worker_clears_where_the_first_does_not_come_back(line: Line) -> None:
    await lose(line, "suspect")
    assert (await line.look(10, "gone", Holds.TASKS)).clear
    assert not (await line.look(10, "other", Holds.TASKS)).clear
    await line.pass_time(3)
    assert (await line.look(10, "other", Holds.TASKS)).clear


async def test_an_idle_worker_is_asked_for_it_also_while_another_clears(line: Line) -> None:
    """It may have asked for tasks elsewhere, so it has to ask again; it is empty within a round trip."""
    await lose(line, "suspect")
    assert (await line.look(10, "busy", Holds.TASKS)).clear
    assert (await line.look(10, "idle", Holds.PERHAPS)).clear
    assert [d.id for d in await line.fetch(10, "idle")] == ["suspect"]
    assert not (await line.look(10, "busy", Holds.TASKS)).clear


async def test_what_comes_before_a_task_on_its_last_life_is_taken_first(line: Line) -> None:
    await lose(line, "suspect")
    await line.enqueue("urgent", priority=1)
    await line.enqueue("later")
    turn = await line.look(10)
    assert ([d.id for d in turn.deliveries], turn.clear) == (["urgent"], True)
    assert await line.order() == ["suspect"]


async def test_a_task_on_its_last_life_whose_concurrency_key_is_full_holds_nobody_up(line: Line) -> None:
    one = Limit("key", 1)
    await line.enqueue("a", limit=one)
    for _ in range(2):
        [delivery] = await line.fetch(1, "dies")
        assert delivery.id == "a"
        await crash(line)
    await now(line.redis.zadd(line.keys.ready, {"b": 1}))  # before it in line
    await line.enqueue("b", limit=one)
    await now(line.redis.zrem(line.keys.ready, "b"))
    await now(line.redis.zadd(line.keys.ready, {"b": 1}))
    await line.enqueue("c")
    first = await line.look(1, "one", Holds.TASKS)
    assert [d.id for d in first.deliveries] == ["b"]
    turn = await line.look(10, "two", Holds.TASKS)
    assert ([d.id for d in turn.deliveries], turn.clear) == (["c"], False)
    assert (await line.status("a")).parked == "key"
    [b] = first.deliveries
    await line.settle(b, Succeed(b"null"))
    [delivery] = await line.fetch(10)
    assert (delivery.id, delivery.last_life) == ("a", True)


async def test_a_suspect_keeps_its_priority_and_its_position(patient: Line) -> None:
    await patient.enqueue("low", priority=-1)
    await lose(patient, "lost")
    await patient.enqueue("late")
    await patient.enqueue("urgent", priority=9)
    assert await patient.order() == ["urgent", "lost", "late", "low"]


async def test_a_suspect_beyond_the_room_waits_for_its_turn(patient: Line) -> None:
    await patient.enqueue("lost", priority=-5)
    for _ in range(2):
        await patient.fetch(1)
        await crash(patient)
    await patient.enqueue("a", "b", "c")
    assert await patient.order(2) == ["a", "b"]
    assert await patient.order(2) == ["c", "lost"]


async def test_a_suspect_stays_one_until_it_has_succeeded(line: Line) -> None:
    await lose(line, "a")
    for end in (Release(), Retry(0, FAILURE), Snooze(1)):
        [delivery] = await line.fetch()
        assert (delivery.losses, delivery.last_life) == (2, True)
        await line.settle(delivery, end)
        await line.check()
        await line.pass_time(2)
    [delivery] = await line.fetch()
    await line.settle(delivery, Succeed(b"null"))


async def test_suspects_count_as_ready(line: Line) -> None:
    await lose(line, "a", "b")
    stats = await line.stats()
    assert (stats.ready, stats.running) == (2, 0)
    assert stats.oldest_wait > 30
    assert (await line.status("a")).state == "ready"
