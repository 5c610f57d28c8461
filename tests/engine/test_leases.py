"""A lease is the right to run a task for a while: renewed by its owner, taken back when it lapses, worth nothing afterwards."""

import pytest
from msgspec.structs import replace

from stoker.queue.reaping import Reaped
from stoker.queue.records import Delivery
from stoker.rules.settle import Bury, Release, Retry, Snooze, Succeed, Transition
from stoker.rules.states import TaskState
from tests.engine.line import DONE, FAILURE, LEASE, Line, now, open_line

TWO_BEATS = LEASE * 2 / 3


async def lapse(line: Line) -> Reaped:
    """Silence until every lease has ended."""
    await line.pass_time(LEASE + 0.1)
    return await line.broker.reap()


async def test_nothing_is_taken_back_within_its_lease(line: Line) -> None:
    await line.enqueue("a")
    await line.fetch()
    await line.pass_time(LEASE - 5)
    assert await line.broker.reap() == Reaped(0, 0, 0)
    assert (await line.status("a")).state is TaskState.RUNNING


async def test_what_a_silent_worker_held_goes_back_to_its_position(line: Line) -> None:
    await line.enqueue("a", "b")
    await line.enqueue("urgent", priority=1)
    await line.fetch(2)
    await line.enqueue("c")
    assert await lapse(line) == Reaped(given_back=2, buried=0, forgotten=0)
    assert await line.order() == ["urgent", "a", "b", "c"]


async def test_a_lost_delivery_counts_as_a_run_but_not_as_a_failure(line: Line) -> None:
    await line.enqueue("a")
    await line.fetch()
    await lapse(line)
    [again] = await line.fetch()
    assert (again.attempt, again.failures, again.losses) == (2, 0, 1)
    stats = await line.stats()
    assert (stats.totals.lost, stats.totals.failed, stats.totals.retried) == (1, 0, 0)


async def test_a_task_lost_with_every_worker_is_buried(line: Line) -> None:
    await line.enqueue("killer", priority=4)
    for given_back, buried in [(1, 0), (1, 0), (0, 1)]:
        await line.fetch()
        reaped = await lapse(line)
        assert (reaped.given_back, reaped.buried) == (given_back, buried)
    status = await line.status("killer")
    assert (status.state, status.losses) == (TaskState.DEAD, 3)
    assert status.failure is not None
    assert status.failure.type == "WorkerLost"
    assert "3 times" in status.failure.message


async def test_success_forgives_earlier_losses(redis_url: str) -> None:
    async with open_line(redis_url, max_lost=2) as line:
        await line.enqueue("a")
        await line.fetch()
        await lapse(line)
        [again] = await line.fetch()
        assert await line.settle(again, DONE)
        assert (await line.status("a")).losses == 0


async def test_a_heartbeat_renews_what_it_owns(line: Line) -> None:
    await line.enqueue("a", "b")
    kept, forgotten = await line.fetch()
    for _ in range(4):
        await line.pass_time(TWO_BEATS)
        assert (await line.beat(kept)).lost == []
    assert (await line.broker.reap()).given_back == 1
    assert (await line.status(kept.id)).state is TaskState.RUNNING
    assert (await line.status(forgotten.id)).state is TaskState.READY


async def test_a_heartbeat_returns_the_leases_it_has_lost(line: Line) -> None:
    await line.enqueue("a", "b")
    lost, kept = await line.fetch()
    await line.pass_time(TWO_BEATS)
    await line.beat(kept)
    await line.pass_time(TWO_BEATS)
    await line.broker.reap()
    assert (await line.beat(lost, kept)).lost == [lost.fence]
    [newer] = await line.fetch(worker="other")
    assert (await line.beat(lost)).lost == [lost.fence]
    await line.pass_time(TWO_BEATS)
    assert (await line.beat(newer, worker="other")).lost == []


async def test_an_old_heartbeat_does_not_renew_the_new_owners_lease(line: Line) -> None:
    await line.enqueue("a")
    [old] = await line.fetch(worker="old")
    await lapse(line)
    await line.fetch(worker="new")
    await line.pass_time(LEASE - 1)
    await line.beat(old, worker="old")
    await line.pass_time(2)
    assert (await line.broker.reap()).given_back == 1


async def test_a_heartbeat_for_a_settled_task_returns_it_as_lost(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.settle(delivery, DONE)
    assert (await line.beat(delivery)).lost == [delivery.fence]
    assert (await line.stats()).running == 0


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(Succeed(b"1"), id="succeed"),
        pytest.param(Retry(5, FAILURE), id="retry"),
        pytest.param(Retry(0, FAILURE), id="retry at once"),
        pytest.param(Bury(FAILURE), id="bury"),
        pytest.param(Snooze(5), id="snooze"),
        pytest.param(Release(), id="release"),
    ],
)
@pytest.mark.parametrize("now_at", ["ready", "another worker", "done", "dead", "gone"])
async def test_a_worker_that_lost_the_lease_changes_nothing(line: Line, late: Transition, now_at: str) -> None:
    await line.enqueue("a", priority=2)
    [old] = await line.fetch()
    await lapse(line)
    await move_on(line, now_at)
    before = await everything(line)
    assert not await line.settle(old, late)
    assert await everything(line) == before
    assert (await line.stats()).totals.stale_settles == 1


async def move_on(line: Line, place: str) -> None:
    if place == "ready":
        return
    [delivery] = await line.fetch(worker="another")
    if place == "done":
        await line.settle(delivery, Succeed(b"2"))
    elif place in {"dead", "gone"}:
        await line.settle(delivery, Bury(FAILURE))
    if place == "gone":
        await line.inspector.delete("emails", ["a"])


async def everything(line: Line) -> dict[bytes, object]:
    """All that is in Redis but the clock and the count of refusals."""
    content: dict[bytes, object] = {}
    async for key in line.redis.scan_iter():
        kind = await line.redis.type(key)
        if kind == b"zset":
            content[key] = await now(line.redis.zrange(key, 0, -1, withscores=True))
        elif kind == b"hash" and key.decode() != line.keys.meta:
            fields = await now(line.redis.hgetall(key))
            content[key] = {name: value for name, value in fields.items() if name != b"stale_settles"}
    return content


async def test_a_fence_that_only_begins_like_the_real_one_is_refused(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    for forged in (delivery.fence[:-1], delivery.fence + "0", "", delivery.fence.replace("w", "v")):
        assert not await line.settle(replace(delivery, fence=forged), DONE)
    assert await line.settle(delivery, DONE)


async def test_after_a_rolled_back_counter_the_nonce_still_tells_deliveries_apart(line: Line) -> None:
    await line.enqueue("a")
    [old] = await line.fetch()
    await lapse(line)
    await now(line.redis.hdel(line.keys.meta, "fence"))
    [new] = await line.fetch()
    assert new.fence.split(":")[0] == old.fence.split(":")[0]
    assert not await line.settle(old, DONE)
    assert await line.settle(new, DONE)


async def test_a_second_settlement_of_the_same_delivery_is_refused(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    assert await line.settle(delivery, DONE)
    assert not await line.settle(delivery, DONE)
    assert (await line.stats()).totals.succeeded == 1


async def test_one_batch_may_hold_good_and_stale_settlements(line: Line) -> None:
    from stoker.queue.settlements import Settlement

    await line.enqueue("a", "b")
    a, b = await line.fetch()
    stale = replace(a, fence="0000000000000000:w:00000000")
    settlements = [Settlement(each.id, each.fence, DONE) for each in (stale, b, a, a)]
    turn = await line.broker.turn(settlements, 0, "w")
    assert turn.refused == [settlements[0], settlements[3]]
    stats = await line.stats()
    assert (stats.totals.succeeded, stats.totals.stale_settles, stats.succeeded) == (2, 2, 2)


async def test_a_batch_larger_than_a_call_is_settled_whole(line: Line) -> None:
    from stoker.queue.settlements import Settlement

    await line.enqueue(*map(str, range(450)))
    taken: list[Delivery] = []
    while more := await line.fetch(200):
        taken += more
    turn = await line.broker.turn([Settlement(each.id, each.fence, DONE) for each in taken], 5, "w")
    assert turn.refused == []
    assert (await line.stats()).totals.succeeded == 450


async def test_workers_are_known_while_they_beat(line: Line) -> None:
    await line.beat(worker="one")
    await line.beat(worker="two")
    assert (await line.stats()).workers == 2
    await line.broker.forget_worker("one")
    assert (await line.stats()).workers == 1
    assert await lapse(line) == Reaped(0, 0, forgotten=1)
    assert (await line.stats()).workers == 0


async def test_a_leases_end_is_shown(line: Line) -> None:
    await line.enqueue("a")
    await line.fetch(worker="w-1")
    status = await line.status("a")
    assert status.worker == "w-1"
    assert status.at is not None
    assert 0 < status.at - await line.clock() <= LEASE * 1000
