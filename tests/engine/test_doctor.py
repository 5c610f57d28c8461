"""The doctor: each kind of damage is found and mended, and what is only on its way is none."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.records import Delivery
from stoker.queue.scripts import run
from stoker.queue.settlements import Settlement
from stoker.queue.workflows.effects import Keyed, relay_call
from stoker.queue.workflows.outbox import Outbox
from stoker.rules.admission import Admission
from stoker.rules.concurrency import Limit
from stoker.rules.effects import CompleteMember, Effect, OpenJoin, PutInOutbox, begin
from stoker.rules.identity import Holder
from stoker.rules.message import decode
from stoker.rules.schedule import Definition, cron
from stoker.rules.settle import Bury, Succeed
from stoker.rules.states import TaskState
from stoker.rules.unique import Claim
from stoker.rules.workflow import GroupStep, Member, Origin, OutboxEntry, TaskStep, number
from tests.engine.line import DONE, FAILURE, LEASE, NAMESPACE, QUEUE, Line, message, now

US = "\x1f"
ORIGIN = Origin(1_800_000_000_000)
PRINTER = Limit("printer", 1)
Plant = Callable[[Line], Awaitable[object]]
Found = set[tuple[str, str]]


async def found(line: Line, *, mend: bool = False) -> Found:
    findings = await line.examine(mend=mend)
    assert all(finding.mended is mend for finding in findings)
    return {(finding.id, finding.trouble) for finding in findings}


async def is_found_and_mended(line: Line, *expected: tuple[str, str]) -> None:
    """Looking mends nothing; and what was mended once is sound."""
    assert await found(line) == set(expected)
    assert await found(line, mend=True) == set(expected)
    assert await found(line) == set()
    assert (await line.stats()).totals.mended == len(expected)


# --- tasks


async def set_hash(line: Line, key: str, field: str, value: object) -> None:
    await now(line.redis.hset(key, field, str(value)))


@pytest.mark.parametrize(
    ("trouble", "plant"),
    [
        pytest.param("in the wrong ready set", lambda line: set_hash(line, line.keys.lost, "ready", 2), id="lost and no suspect"),
        pytest.param("lease without owner", lambda line: now(line.redis.hdel(line.keys.owners, "running")), id="no owner"),
        pytest.param("stray column", lambda line: set_hash(line, line.keys.cancels, "ready", 1), id="a wish to cancel"),
        pytest.param("stray column", lambda line: set_hash(line, line.keys.results, "dead", "{}"), id="a result"),
        pytest.param("stray column", lambda line: set_hash(line, line.keys.levels, "running", 3), id="a level"),
        pytest.param("stray column", lambda line: set_hash(line, line.keys.attempts, "done", 2), id="attempts"),
        pytest.param("stray column", lambda line: set_hash(line, line.keys.limits, "done", "1 printer"), id="a concurrency key"),
        pytest.param("stray column", lambda line: set_hash(line, line.keys.members, "done", "emails j 0"), id="a place in a group"),
        pytest.param("without envelope", lambda line: set_hash(line, line.keys.progress, "gone", "f 1"), id="progress of nobody"),
        pytest.param("without envelope", lambda line: set_hash(line, line.keys.logs, "gone", "f 1\n{}"), id="log lines of nobody"),
        pytest.param("without envelope", lambda line: set_hash(line, line.keys.history, "gone", "{}"), id="history of nobody"),
        pytest.param("without envelope", lambda line: set_hash(line, line.keys.cancels, "gone", 1), id="a cancel of nobody"),
        pytest.param("without envelope", lambda line: set_hash(line, line.keys.limits, "gone", "1 printer"), id="a key of nobody"),
    ],
)
async def test_columns_that_tell_of_something_else(line: Line, trouble: str, plant: Plant) -> None:
    await line.enqueue("dead", "done", "running", "ready")
    dead, done, _ = await line.fetch(3)
    await line.settle(dead, Bury(FAILURE))
    await line.settle(done, DONE)
    assert await found(line) == set()
    await plant(line)
    [(task_id, said)] = await found(line)
    assert said == trouble
    await is_found_and_mended(line, (task_id, trouble))
    await line.check()


async def test_who_was_nowhere_keeps_its_priority(line: Line) -> None:
    await line.enqueue("low")
    await line.enqueue("high", priority=5)
    await now(line.redis.zrem(line.keys.ready, "high"))
    await is_found_and_mended(line, ("high", "in no state"))
    assert await line.order() == ["high", "low"]


# --- concurrency keys, claims, workers


async def with_a_key(line: Line, *ids: str) -> None:
    await line.broker.enqueue([Admission(message(task_id), limit=PRINTER) for task_id in ids])


async def test_a_task_that_is_gone_holds_no_room_of_its_key(line: Line) -> None:
    await with_a_key(line, "next")
    await now(line.redis.zadd(line.keys.running_by, {f"printer{US}gone": 0}))
    assert await line.order() == []
    await is_found_and_mended(line, ("gone", "stale concurrency slot"))
    assert await line.order() == ["next"]


async def test_a_parked_entry_without_a_task_is_removed(line: Line) -> None:
    await with_a_key(line, "runs", "parked", "last")
    [runs] = await line.fetch()
    turn = (await now(line.redis.zrange(line.keys.parked_by, 0, 0)))[0].replace(b"parked", b"nobody")
    await now(line.redis.zadd(line.keys.parked_by, {turn: 0}))
    await is_found_and_mended(line, ("nobody", "stale parking entry"))
    await line.settle(runs, DONE)
    assert await line.order() == ["parked"]


async def test_parked_ones_whose_key_has_room_stand_in_line_again(line: Line) -> None:
    """Its worker has settled it, and what should have made way did not."""
    pool = Limit("pool", 3)
    await line.broker.enqueue([Admission(message(f"t{number}"), limit=pool) for number in range(8)])
    running = await line.fetch()
    assert len(running) == 3
    await line.enqueue("other")
    k = line.keys
    for delivery in running[:2]:
        await now(line.redis.hdel(k.limits, delivery.id))
        await now(line.redis.zrem(k.running_by, f"pool{US}{delivery.id}"))
        await line.settle(delivery, DONE)
    await is_found_and_mended(line, ("t3", "parked, but its concurrency key has room"))
    assert await line.order() == ["t3", "t4", "other"]


async def test_one_that_waits_for_its_turn_in_line_is_no_damage(line: Line) -> None:
    await with_a_key(line, *(f"t{number}" for number in range(4)))
    [first] = await line.fetch()
    await line.enqueue(*(f"urgent{number}" for number in range(40)), priority=9)
    await line.settle(first, DONE)
    assert await found(line) == set(), "the next stands in line behind those who are more urgent"
    for delivery in await line.fetch(41):
        await line.settle(delivery, DONE)
    assert await found(line) == set()
    await line.inspector.cancel(QUEUE, ["t2"])
    assert await found(line) == set()


async def test_a_claim_without_a_holder_is_freed(line: Line) -> None:
    claim = Claim("kind", "done", 1e6)
    await line.broker.enqueue([Admission(message("holder"), claim=claim)])
    await now(line.redis.hdel(line.keys.claims, "holder"))
    await is_found_and_mended(line, ("holder", "stale uniqueness lock"))
    [receipt] = await line.broker.enqueue([Admission(message("another"), claim=claim)])
    assert not receipt.duplicate


async def test_a_worker_without_a_heartbeat_is_forgotten(line: Line) -> None:
    await line.beat(worker="alive")
    await set_hash(line, line.keys.workers, "ghost", "{}")
    await is_found_and_mended(line, ("ghost", "worker without heartbeat"))
    assert await now(line.redis.hkeys(line.keys.workers)) == [b"alive"]


async def test_the_wake_token_that_was_lost(line: Line) -> None:
    await line.enqueue("a")
    assert await found(line) == set()
    await now(line.redis.delete(line.keys.wake))
    await is_found_and_mended(line, (QUEUE, "tasks are ready, but there is no wake token"))
    assert await line.broker.wait_for_work(0.01)


async def test_a_paused_queue_needs_no_wake_token(line: Line) -> None:
    await line.enqueue("a")
    await now(line.redis.delete(line.keys.wake))
    await line.inspector.pause(QUEUE)
    assert await found(line) == set()


# --- joins


def group(line: Line, members: int, *, place: str = QUEUE) -> list[Effect]:
    """The items of a group whose members are in `place`, and are followed by a task in the line's queue."""
    link = TaskStep(replace(message(""), queue=place))
    steps = number((GroupStep(((link,),) * members), TaskStep(message(""), into="numbers")), "m")
    return list(begin(OutboxEntry("key", ORIGIN, steps), lambda queue, _: queue))


def join_of(items: list[Effect]) -> str:
    return next(item.placeholder.id for item in items if isinstance(item, OpenJoin))


async def perform(line: Line, *items: Effect, queue: str = QUEUE) -> None:
    await run(line.redis, relay_call(Keys(NAMESPACE, queue), [Keyed("", item) for item in items]))


async def arrive(line: Line, delivery: Delivery, join: str, value: bytes = b"1") -> None:
    item = CompleteMember(Member(QUEUE, join, int(delivery.id.rpartition(".")[2]) - 1), Raw(value))
    await line.broker.turn([Settlement(delivery.id, delivery.fence, Succeed(value), 0.0, [item])], 0, "w")


async def test_a_join_whose_member_is_gone_for_good_is_broken(line: Line) -> None:
    items = group(line, 3)
    join = join_of(items)
    await perform(line, *items)
    first, second, third = await line.fetch()
    await arrive(line, first, join)
    assert await found(line) == set()
    await line.settle(second, DONE)  # it succeeded, and did not arrive
    await is_found_and_mended(line, (join, "waits for members that no longer exist: 1"))
    status = await line.status(join)
    assert (status.state, status.failure and status.failure.type) == (TaskState.DEAD, "GroupBroken")
    await arrive(line, third, join)
    assert await found(line) == set()


async def test_a_member_without_envelope_breaks_its_group(line: Line) -> None:
    items = group(line, 2)
    await perform(line, *items)
    gone = items[1].admission.message.id  # type: ignore[union-attr]
    await now(line.redis.hdel(line.keys.tasks, gone))
    assert await found(line, mend=True) == {(gone, "without envelope")}
    outbox = Outbox(line.redis, line.keys)
    await outbox.relay(await outbox.read())
    assert (await line.status(join_of(items))).state is TaskState.DEAD
    assert await found(line) == set()


async def test_members_in_other_queues_and_in_outboxes_are_on_their_way(line: Line) -> None:
    """Dead ones too: a person may redrive them, or delete them, which breaks the group."""
    other = Broker(line.redis, Keys(NAMESPACE, "other"))
    await other.register()
    items = group(line, 3, place="other")
    join = join_of(items)
    await perform(line, items[0])
    await perform(line, *items[1:], queue="other")
    one, two, three = (await other.turn([], 3, "w")).deliveries
    assert await found(line) == set(), "they run elsewhere"
    arrival = PutInOutbox("other", OutboxEntry("key", ORIGIN, (), Member(QUEUE, join, 0), Raw(b"1")))
    await other.turn([Settlement(one.id, one.fence, Succeed(b"1"), 0.0, [arrival])], 0, "w")
    await other.turn([Settlement(two.id, two.fence, Bury(FAILURE), 0.0)], 0, "w")
    assert await found(line) == set(), "one lies in the outbox of another queue, one is dead"
    await line.inspector.delete("other", [two.id])
    assert await found(line) == set(), "the word of its end lies in the outbox"
    for _ in range(2):
        box = Outbox(line.redis, Keys(NAMESPACE, "other"))
        await box.relay(await box.read())
    assert (await line.status(join)).state is TaskState.DEAD
    await other.turn([Settlement(three.id, three.fence, DONE, 0.0)], 0, "w")


async def test_groups_within_groups_are_on_their_way(line: Line) -> None:
    link = TaskStep(message(""))
    inner = (GroupStep(((link,), (link,))), link)
    steps = number((GroupStep((inner, (link,))), link), "m")
    entry = OutboxEntry("key", ORIGIN, steps)
    items = list(begin(OutboxEntry("key", ORIGIN, steps), lambda queue, _: queue))
    await perform(line, *items)
    assert await found(line) == set()
    joins = [item for item in items if isinstance(item, OpenJoin)]
    assert len(joins) == 2
    for item in items:  # begun half way: the joins are there, and the members lie in the outbox still
        if not isinstance(item, OpenJoin):
            await line.inspector.cancel(QUEUE, [item.admission.message.id])  # type: ignore[union-attr]
    await now(line.redis.delete(line.keys.outbox))
    await perform(line, PutInOutbox(QUEUE, entry))
    assert await found(line) == set()
    await now(line.redis.delete(line.keys.outbox))
    assert len(await found(line)) == 2


async def miscount(line: Line, join: str) -> None:
    await set_hash(line, line.keys.waiting, join, "3 0 262144 2")


@pytest.mark.parametrize("plant", [miscount, lambda line, join: now(line.redis.hdel(line.keys.waiting, join))])
@pytest.mark.parametrize("arrived", [0, 1, 2])
async def test_a_join_is_counted_again(line: Line, plant: Any, arrived: int) -> None:
    """All its members have arrived and it did not notice: then what follows follows now."""
    items = group(line, 2)
    join = join_of(items)
    await perform(line, *items)
    members = await line.fetch()
    for delivery in members[:arrived]:
        if arrived == 2 and delivery is members[-1]:
            await plant(line, join)
            await now(line.redis.hset(line.keys.arrivals, f"{join}{US}1", "1"))
            await line.settle(delivery, DONE)
        else:
            await arrive(line, delivery, join)
    if arrived < 2:
        await plant(line, join)
    await is_found_and_mended(line, (join, "wrong join count"))
    for delivery in members[arrived:]:
        await arrive(line, delivery, join)
    [joined] = await line.fetch()
    assert (joined.id, bytes(decode(joined.envelope).payload)) == (join, b'{"numbers":[1,1]}')
    assert await line.stats()


async def test_remains_of_joins_are_removed(line: Line) -> None:
    items = group(line, 2)
    join = join_of(items)
    await perform(line, *items)
    k = line.keys
    await now(line.redis.hset(k.arrivals, f"gone{US}0", "1"))
    await set_hash(line, k.waiting, "rowless", "2 0 -1 2")
    await now(line.redis.hset(k.arrivals, f"rowless{US}0", "1"))
    await set_hash(line, k.tasks, join, "{}")
    await now(line.redis.zadd(k.ready, {join: 1}))
    assert await found(line, mend=True) == {
        ("gone", "result for a join that is over"),
        ("rowless", "join without successor"),
        (join, "join already run"),
    }
    assert await found(line) == set()
    assert not await now(line.redis.exists(k.joins, k.waiting, k.arrivals))


# --- the outbox and what was relayed


async def test_an_unreadable_entry_becomes_a_dead_letter_and_delays_no_other(line: Line) -> None:
    k, outbox = line.keys, Outbox(line.redis, line.keys)
    bad = (await now(line.redis.xadd(k.outbox, {"body": "{"}))).decode()
    strange = (await now(line.redis.xadd(k.outbox, {"home": QUEUE, "why": "purged"}))).decode()
    await perform(line, PutInOutbox(QUEUE, OutboxEntry("key", ORIGIN, (TaskStep(message("child")),))))
    with pytest.raises(Exception, match="cannot be relayed"):
        await outbox.relay(await outbox.read())
    assert await line.order() == ["child"]
    troubles = dict(await found(line))
    assert set(troubles) == {f"outbox-{bad}", f"outbox-{strange}"}
    assert "it has no at, id, join" in troubles[f"outbox-{strange}"]
    assert set(dict(await found(line, mend=True))) == set(troubles)
    assert await found(line) == set()
    status = await line.status(f"outbox-{bad}")
    assert status.state is TaskState.DEAD
    assert bytes(status.payload) == b'{"body":"{"}'


async def test_an_entry_that_lies_there_for_long_is_relayed(line: Line) -> None:
    await perform(line, PutInOutbox(QUEUE, OutboxEntry("key", ORIGIN, (TaskStep(message("child")),))))
    assert await found(line) == set()
    await line.pass_time(61)
    [(_, trouble)] = await found(line)
    assert trouble == "was not relayed for 61 s"
    await found(line, mend=True)
    assert await found(line) == set()
    assert await line.order() == ["child"]


async def test_what_was_relayed_is_forgotten_after_a_time(line: Line) -> None:
    await now(line.redis.zadd(line.keys.relayed, {"key": 9e15}))
    await is_found_and_mended(line, ("key", "relay key kept too long"))
    await line.pass_time(601)
    await line.broker.sweep()
    assert not await now(line.redis.exists(line.keys.relayed))


# --- schedules

HOURLY = Definition("hourly", cron("@hourly"), "report", Raw(b"{}"))
IDLE = Definition("idle", cron("@hourly"), "report", Raw(b"{}"), suspend=True)
SPREAD = Definition("spread", cron("@hourly", jitter=600), "report", Raw(b"{}"))


@pytest.mark.parametrize(
    ("name", "trouble", "plant"),
    [
        pytest.param(
            "hourly",
            "has no next run, though not paused",
            lambda line: now(line.redis.zrem(line.keys.upcoming, "hourly")),
            id="no next run",
        ),
        pytest.param(
            "spread",
            "next run at another time than its moment",
            lambda line: now(line.redis.zincrby(line.keys.upcoming, 3600_000, "spread")),
            id="too late",
        ),
        pytest.param(
            "hourly",
            "next run without a moment",
            lambda line: now(line.redis.hdel(line.keys.schedules, "moment hourly")),
            id="no moment",
        ),
        pytest.param(
            "paused",
            "has a next run, though paused",
            lambda line: now(line.redis.zadd(line.keys.upcoming, {"paused": 1})),
            id="paused",
        ),
        pytest.param(
            "idle",
            "has a next run, though suspended",
            lambda line: now(line.redis.zadd(line.keys.upcoming, {"idle": 1})),
            id="idle",
        ),
        pytest.param(
            "gone",
            "left behind by a removed schedule",
            lambda line: now(line.redis.zadd(line.keys.upcoming, {"gone": 1})),
            id="next run of none",
        ),
        pytest.param(
            "gone",
            "left behind by a removed schedule",
            lambda line: set_hash(line, line.keys.schedules, "missed gone", 3),
            id="columns of none",
        ),
        pytest.param(
            "gone",
            "left behind by a removed schedule",
            lambda line: set_hash(line, line.keys.runs, "gone", "x"),
            id="run of none",
        ),
    ],
)
async def test_every_schedule_has_one_next_run_or_none_for_a_reason(line: Line, name: str, trouble: str, plant: Plant) -> None:
    schedules = line.inspector.schedules(QUEUE)
    await schedules.register("code", 1, [HOURLY, IDLE, SPREAD, replace(HOURLY, name="paused")])
    await schedules.pause("paused")
    before = await schedules.all()
    assert await found(line) == set()
    await plant(line)
    await is_found_and_mended(line, (name, trouble))
    assert await schedules.all() == before


async def test_a_schedule_that_cannot_be_read_keeps_no_other_from_running(line: Line) -> None:
    schedules = line.inspector.schedules(QUEUE)
    await schedules.register("code", 1, [HOURLY, replace(HOURLY, name="broken")])
    await now(line.redis.hdel(line.keys.schedules, "moment broken"))
    await line.pass_time(3601)
    assert [task_id.split("-")[1] for task_id in (await schedules.look()).started] == ["hourly"]
    assert await found(line, mend=True) == {("broken", "next run without a moment")}
    assert [task_id.split("-")[1] for task_id in (await schedules.look()).started] == ["broken"]


# --- together


async def test_much_damage_is_mended_in_bounded_steps(line: Line) -> None:
    """And what was damaged in several ways needs one look."""
    ids = [f"t{number}" for number in range(700)]
    await line.enqueue(*ids)
    k = line.keys
    await now(line.redis.zrem(k.ready, *ids[:350]))
    await now(line.redis.hset(k.cancels, mapping=dict.fromkeys(ids, "1")))
    await now(line.redis.hset(k.lost, mapping=dict.fromkeys(ids[::2], "1")))
    await now(line.redis.zadd(k.running_by, {f"key{US}x{number}": 0 for number in range(250)}))
    assert len(await line.examine(mend=True)) == 700 + 250
    assert await found(line) == set()
    await line.check()
    await line.pass_time(LEASE)


# --- the claim of a TaskQueue


async def test_a_claim_that_cannot_be_read_is_released(line: Line) -> None:
    """Its operator would not recognize it, so the TaskQueue would be refused its own queue."""
    await set_hash(line, line.keys.meta, "claim", "{")
    await is_found_and_mended(line, (QUEUE, "claim that cannot be read"))
    holder = Holder("cluster", "shop", "emails", "uid")
    assert await line.inspector.claim(QUEUE, holder) == holder
    assert await found(line) == set()


async def test_a_claim_that_was_left_for_another_redis_is_released(line: Line) -> None:
    """Its operator was killed between the mark and the release."""
    left = Holder("cluster", "shop", "emails", "uid").moved()
    assert await line.inspector.claim(QUEUE, left) == left
    await is_found_and_mended(line, (QUEUE, "claim that TaskQueue emails has left"))
    assert await line.inspector.release_claim(QUEUE) is None
