"""Minding: which worker does a partition's chores, when it looks next, and who replaces it."""

from collections.abc import Awaitable, Callable

import pytest

from stoker.queue import scripts
from stoker.queue.reads.inspector import Inspector
from stoker.queue.records import DueChores, Turn
from stoker.queue.settlements import Settlement
from stoker.rules.settle import Bury
from stoker.rules.states import TaskState
from tests.engine.line import DONE, FAILURE, LEASE, QUEUE, Line, now

pytestmark = pytest.mark.every_server
LOOK, OVERDUE = 0.8, 1.6
"""Seconds: the longest until the next look, and more than a minder may be late."""


async def looked(line: Line, worker: str = "minder") -> DueChores:
    found = await line.broker.mind(worker)
    assert found is not None, "another worker minds"
    return found


async def test_the_first_worker_to_call_is_the_minder(line: Line) -> None:
    assert (await line.look(worker="minder")).mind_in == 0
    assert (await line.look(worker="other")).mind_in is None
    assert (await line.beat(worker="other")).mind_in is None
    assert await line.broker.mind("other") is None


async def test_a_worker_with_no_slot_free_becomes_the_minder_by_its_heartbeat(line: Line) -> None:
    assert (await line.beat(worker="full")).mind_in == 0
    assert (await line.look(worker="other")).mind_in is None


async def test_a_minder_stays_as_long_as_it_looks(line: Line) -> None:
    await line.look(worker="minder")
    for _ in range(5):
        assert (await looked(line)).next_in == pytest.approx(LOOK, abs=0.01)
        await line.pass_time(LOOK)
        assert (await line.look(worker="other")).mind_in is None


async def test_a_minder_that_misses_its_moment_is_replaced_by_the_next_caller(line: Line) -> None:
    await line.look(worker="minder")
    await looked(line)
    await line.pass_time(OVERDUE)
    assert (await line.beat(worker="other")).mind_in == 0
    assert await line.broker.mind("minder") is None, "it hears so when it comes back"
    await line.pass_time(OVERDUE)
    assert (await line.look(worker="third")).mind_in == 0


async def test_a_paused_queue_has_a_minder_too(line: Line) -> None:
    await line.inspector.pause(QUEUE)
    assert (await line.look(worker="minder")).mind_in == 0


async def test_a_fetch_that_sees_a_task_fall_due_before_the_next_look_takes_over(line: Line) -> None:
    await line.look(worker="minder")
    await looked(line)
    await line.enqueue("soon", delay=0.3)
    assert (await line.look(worker="other")).mind_in == pytest.approx(0.3, abs=0.1)
    assert (await line.look(worker="third")).mind_in is None
    assert await line.broker.mind("minder") is None


async def test_a_minder_comes_back_when_the_next_task_falls_due(line: Line) -> None:
    await line.enqueue("soon", delay=0.5)
    assert (await looked(line)).next_in == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("leave", ["exits", "is seen to end"])
async def test_a_minder_that_is_gone_wakes_the_next(line: Line, leave: str) -> None:
    await line.beat(worker="pod-1-7-abcdef")
    await line.beat(worker="pod-2-7-abcdef")
    if leave == "exits":
        await line.broker.forget_worker("pod-1-7-abcdef")
    else:
        await line.inspector.reap_worker(QUEUE, "pod-1", 3)
    assert await now(line.redis.llen(line.keys.wake)) == 1
    assert (await line.look(worker="pod-2-7-abcdef")).mind_in == 0


async def test_one_that_did_not_mind_leaves_the_minder_alone(line: Line) -> None:
    await line.beat(worker="minder")
    await line.beat(worker="other")
    await line.broker.forget_worker("other")
    assert await now(line.redis.llen(line.keys.wake)) == 0
    assert (await line.look(worker="third")).mind_in is None


async def test_a_moment_that_no_look_can_have_is_damage(line: Line) -> None:
    await now(line.redis.hset(line.keys.meta, mapping={"minder": "nobody", "mind_until": 10**15}))
    assert (await line.look(worker="minder")).mind_in == 0


async def scheduled_and_due(line: Line) -> None:
    await line.enqueue("a", delay=1)
    await line.pass_time(2)


async def held_by_a_dead_worker(line: Line) -> None:
    await line.enqueue("a")
    await line.fetch(worker="dead")
    await line.pass_time(LEASE + 1)


async def never_to_beat_again(line: Line) -> None:
    await line.beat(worker="dead")
    await line.pass_time(LEASE + 1)


async def in_the_inbox(line: Line) -> None:
    await now(line.redis.xadd(line.keys.inbox, {"task": "add"}))


async def long_in_the_outbox(line: Line) -> None:
    await now(line.redis.xadd(line.keys.outbox, {"body": "{"}))
    await line.pass_time(2)


async def past_its_retention(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.settle(delivery, DONE)
    await line.pass_time(10**7)


async def dead_past_its_retention(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.broker.turn([Settlement(delivery.id, delivery.fence, Bury(FAILURE))], 0, "w")
    await line.pass_time(10**8)


async def a_run_in_flight(line: Line) -> None:
    await now(line.redis.hset(line.keys.runs, "nightly", "a"))


CAUSES: dict[Callable[[Line], Awaitable[None]], str] = {
    scheduled_and_due: "promotion",
    held_by_a_dead_worker: "reap",
    never_to_beat_again: "reap",
    in_the_inbox: "take in",
    long_in_the_outbox: "relay",
    past_its_retention: "sweep",
    dead_past_its_retention: "sweep",
    a_run_in_flight: "start runs",
}


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
async def test_a_look_says_which_chore_is_due(line: Line, cause: Callable[[Line], Awaitable[None]]) -> None:
    assert not (await looked(line)).names
    await cause(line)
    assert (await looked(line)).names == {CAUSES[cause]}


async def test_what_a_living_worker_is_about_to_relay_is_left_to_it(line: Line) -> None:
    await now(line.redis.xadd(line.keys.outbox, {"body": "{"}))
    assert not (await looked(line)).names


async def test_a_look_at_a_queue_that_keeps_nothing_is_few_commands(line: Line) -> None:
    """TIME, the marks, the clock, the minder, is anything kept, the first heartbeat to expire, the renewal."""
    scripts.take_time_from()
    await looked(line)
    before = await commands(line)
    await looked(line)
    assert await commands(line) - before <= 8 + line.redis.old  # Redis 6.2: a light write first


async def a_wait_of(line: Line, worker: str) -> Turn:
    """That ends without a token."""
    await now(line.redis.delete(line.keys.wake))
    turn = await line.broker.wait_and_take(10, worker, 0.05)
    assert turn is not None
    return turn


async def idle_beside_a_minder(line: Line) -> None:
    await line.look(worker="minder")
    await looked(line)
    await line.beat(worker="other")


async def test_a_wait_that_brings_nothing_is_few_commands(line: Line) -> None:
    """BLPOP, EVALSHA, TIME, the marks, the clock, is anything kept: all that most workers ever send."""
    await idle_beside_a_minder(line)
    await a_wait_of(line, "other")  # opens its connection
    before = await commands(line)
    assert (await a_wait_of(line, "other")).mind_in is None
    assert await commands(line) - before <= 6 + 2 + line.redis.old  # the DEL above, and the clock of this test


async def test_what_falls_due_later_is_left_to_the_minder(line: Line) -> None:
    await line.enqueue("later", delay=60)
    await idle_beside_a_minder(line)
    assert (await a_wait_of(line, "other")).mind_in is None


async def test_a_heartbeat_of_a_worker_that_holds_nothing_is_few_commands(line: Line) -> None:
    await idle_beside_a_minder(line)
    before = await commands(line)
    await line.beat(worker="other")
    assert await commands(line) - before <= 7 + 1 + line.redis.old  # the clock of this test


async def test_a_wait_that_brings_nothing_replaces_a_minder_that_is_overdue(line: Line) -> None:
    await idle_beside_a_minder(line)
    await line.pass_time(OVERDUE)
    assert (await a_wait_of(line, "other")).mind_in == 0


async def test_a_wait_that_brings_nothing_sees_what_falls_due_before_the_next_look(line: Line) -> None:
    await idle_beside_a_minder(line)
    await line.enqueue("soon", delay=0.5)
    assert (await a_wait_of(line, "other")).mind_in == pytest.approx(0.45, abs=0.2)


@pytest.mark.parametrize("what", ["ready", "due", "a suspect"])
async def test_a_wait_without_a_token_brings_what_there_is(line: Line, what: str) -> None:
    """Its token was lost with another worker."""
    await idle_beside_a_minder(line)
    await line.enqueue("a", delay=0.2 if what == "due" else 0.0)
    if what == "a suspect":
        await line.fetch(worker="dead")
        await line.pass_time(LEASE + 1)
        await line.broker.reap()
    await line.pass_time(0.3)
    await line.beat(worker="other")
    await line.broker.mind("minder")
    turn = await a_wait_of(line, "other")
    assert [each.id for each in turn.deliveries] == ["a"]


async def commands(line: Line) -> int:
    """The calls that the server has counted, without those that ask for the count."""
    found = await now(line.redis.info("commandstats"))
    return sum(each["calls"] for name, each in found.items() if "info" not in name)


async def test_overdue_tasks_are_demand_before_a_minder_looks(line: Line) -> None:
    await scheduled_and_due(line)
    stats = await Inspector(line.redis, line.keys.namespace).stats([QUEUE], 0)
    assert stats[0].due == 1
    assert (await line.status("a")).state is TaskState.SCHEDULED
