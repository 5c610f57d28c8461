"""Each two features that meet, together. The table is docs/reference/feature-pairs.md, which a test here compares with these."""

import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stoker import Invalid, Stoker, TaskCall, chain, every, group
from stoker.manifest.policies import RateLimit
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.partitions import Partitions
from stoker.queue.reads.inspector import Cancellation
from stoker.queue.records import Delivery, Receipt, receipts
from stoker.queue.schedules import Schedules
from stoker.queue.settlements import Settlement
from stoker.queue.workflows.outbox import Outbox
from stoker.rules.admission import Admission
from stoker.rules.concurrency import Limit
from stoker.rules.message import decode
from stoker.rules.partitions import PartitionKey, partition_names, partition_of
from stoker.rules.schedule import Definition
from stoker.rules.settle import Cancel, Transition
from stoker.rules.states import TaskState
from stoker.rules.unique import Claim
from stoker.worker.loop.partition_group import _share_of_limit
from tests.engine.line import DONE, QUEUE, Line, message, open_line

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/feature-pairs.md"
FEATURES = (
    *("unique", "expiry", "concurrency key", "rate limit", "idempotency"),
    *("delay", "pause", "cancel", "schedule", "group", "partition"),
)
RIGHT, REFUSED = "right", "refused"
MEETINGS: dict[frozenset[str], str] = {}
ONLY, ONE = Claim("kind", "done", 60.0), Limit("key", 1)
ANY_TIME = every(3600)
Test = Callable[..., Awaitable[None] | None]


def meeting(first: str, second: str, verdict: str = RIGHT) -> Callable[[Test], Test]:
    """The test of this pair."""
    assert {first, second} <= set(FEATURES)
    assert frozenset((first, second)) not in MEETINGS, "each pair has one test"
    MEETINGS[frozenset((first, second))] = verdict
    return lambda test: test


def test_the_page_says_the_same() -> None:
    rows = [
        [cell.strip(" *") for cell in line.strip("|\n").split("|")] for line in PAGE.read_text().splitlines() if line[:1] == "|"
    ]
    heads = rows[0][1:]
    table = {frozenset((row[0], head)): cell for row in rows[2:] for head, cell in zip(heads, row[1:], strict=True) if cell}
    pairs = {frozenset(pair) for pair in itertools.combinations(FEATURES, 2)}
    assert table == {pair: MEETINGS.get(pair, "no meeting") for pair in pairs}
    explained = re.findall(r"^- \*\*(.+?) and (.+?)\*\*: ", PAGE.read_text(), re.MULTILINE)
    assert {frozenset(pair) for pair in explained} == set(MEETINGS)


async def add(line: Line, task_id: str, *, expires: float = 0, **admission: Any) -> Receipt:
    """`expires` in seconds from now."""
    its = message(task_id)
    if expires:
        its = replace(its, expires=await line.clock() + round(expires * 1000))
    [receipt] = receipts(await line.broker.enqueue([Admission(its, **admission)]))
    return receipt


async def begin(line: Line, room: int = 100) -> list[Delivery]:
    """What a worker takes and runs: it cancels what has expired."""
    running = []
    for delivery in await line.fetch(room):
        expires = decode(delivery.envelope).expires
        if expires is not None and delivery.taken >= expires:
            assert await line.settle(delivery, Cancel())
        else:
            running.append(delivery)
    return running


async def began(line: Line, room: int = 100) -> list[str]:
    return [delivery.id for delivery in await begin(line, room)]


async def end(line: Line, delivery: Delivery, how: Transition = DONE) -> None:
    assert await line.settle(delivery, how)


async def state(line: Line, task_id: str) -> TaskState:
    return (await line.status(task_id)).state


@pytest.fixture
async def paced(redis_url: str) -> AsyncIterator[Line]:
    """One task a second, one at once."""
    async with open_line(redis_url, rate_limit=RateLimit(1, 1)) as line:
        yield line


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Stoker]:
    stoker = Stoker("shop", redis=redis_url)

    @stoker.task(name="add", queue=QUEUE)
    async def add(number: int = 0) -> int:
        return number

    yield stoker
    await stoker.close()


@meeting("unique", "expiry")
async def test_an_expired_task_that_waits_keeps_none_of_its_kind_out(line: Line) -> None:
    await add(line, "first", expires=10, claim=ONLY)
    assert (await add(line, "second", claim=ONLY)).duplicate
    await line.pass_time(11)
    assert not (await add(line, "third", claim=ONLY)).duplicate
    assert (await add(line, "fourth", claim=ONLY)) == Receipt("third", None, duplicate=True)
    assert await began(line) == ["third"]
    assert await state(line, "first") is TaskState.CANCELLED


@pytest.mark.parametrize("until", ["started", "done"])
async def test_an_expired_task_that_runs_is_not_stopped_and_claims_on(line: Line, until: Any) -> None:
    await add(line, "first", expires=10, claim=Claim("kind", until, 60.0))
    assert await began(line) == ["first"]
    await line.pass_time(11)
    assert (await add(line, "second", claim=ONLY)).duplicate == (until == "done")


@meeting("unique", "concurrency key")
async def test_a_parked_task_claims(line: Line) -> None:
    await line.enqueue("running", limit=ONE)
    await add(line, "first", claim=ONLY, limit=ONE)
    assert await began(line) == ["running"]
    assert (await line.stats()).parked == 1
    assert (await add(line, "second", claim=ONLY)).duplicate


def test_a_claim_and_a_key_may_belong_to_two_partitions() -> None:
    with pytest.raises(Invalid, match="not both"):
        partition_of(PartitionKey("a", "claim", "key"), partition_names(QUEUE, 2))


@meeting("unique", "rate limit")
async def test_a_task_that_the_rate_limit_holds_back_has_not_started(paced: Line) -> None:
    until_started = Claim("kind", "started", 60.0)
    await paced.enqueue("before")
    await add(paced, "first", claim=until_started)
    assert await began(paced) == ["before"]
    assert (await add(paced, "second", claim=until_started)).duplicate
    await paced.pass_time(1)
    assert await began(paced) == ["first"]
    assert not (await add(paced, "third", claim=until_started)).duplicate


@meeting("unique", "idempotency")
async def test_a_repeated_call_is_itself_whoever_claims_its_kind(line: Line) -> None:
    await add(line, "first", claim=ONLY)
    assert await add(line, "first", claim=ONLY) == Receipt("first", None, duplicate=True)
    [held] = await begin(line)
    await end(line, held)
    await add(line, "second", claim=ONLY)
    assert await add(line, "first", claim=ONLY) == Receipt("first", None, duplicate=True)


@meeting("unique", "delay")
async def test_a_claim_is_counted_from_when_its_task_is_due(line: Line) -> None:
    await add(line, "first", delay=100, claim=ONLY)
    await line.pass_time(158)
    assert (await add(line, "second", claim=ONLY)).duplicate
    await line.pass_time(3)
    assert not (await add(line, "third", claim=ONLY)).duplicate


@meeting("unique", "pause")
async def test_a_task_in_a_paused_queue_claims(line: Line) -> None:
    await line.inspector.pause(QUEUE)
    await add(line, "first", claim=ONLY)
    assert (await add(line, "second", claim=ONLY)).duplicate


@meeting("unique", "cancel")
async def test_a_cancelled_task_claims_nothing(line: Line) -> None:
    await add(line, "first", claim=ONLY)
    await line.inspector.cancel(QUEUE, ["first"])
    assert not (await add(line, "second", claim=ONLY)).duplicate


@meeting("unique", "schedule", REFUSED)
def test_a_schedule_has_its_overlap_instead_of_a_claim() -> None:
    refused_for_schedules(claim=ONLY)


def refused_for_schedules(**given: Any) -> None:
    with pytest.raises(Invalid, match="cannot be given"):
        Stoker("shop").schedule("nightly", ANY_TIME, TaskCall("add", QUEUE, **given))


@meeting("unique", "group", REFUSED)
async def test_a_workflow_does_not_depend_on_the_task_of_another(app: Stoker) -> None:
    call = replace(app.tasks["add"].options().prepare(), claim=ONLY)
    with pytest.raises(Invalid, match="is unique"):
        await group(call).enqueue()


@meeting("unique", "partition")
def test_tasks_of_one_claim_meet_in_one_partition() -> None:
    names = partition_names(QUEUE, 8)
    assert len({partition_of(PartitionKey(str(number), claim="kind"), names) for number in range(50)}) == 1


@meeting("expiry", "concurrency key")
async def test_a_parked_task_that_has_expired_makes_room_for_the_next(line: Line) -> None:
    await line.enqueue("running", limit=ONE)
    await add(line, "late", expires=10, limit=ONE)
    await add(line, "next", limit=ONE)
    [running] = await begin(line)
    await line.pass_time(11)
    await end(line, running)
    assert await began(line) == []
    assert await state(line, "late") is TaskState.CANCELLED
    assert await began(line) == ["next"]


@meeting("expiry", "rate limit")
async def test_an_expired_task_counts_against_the_rate_limit(paced: Line) -> None:
    await paced.enqueue("before")
    await add(paced, "late", expires=0.5)
    await paced.enqueue("next")
    assert await began(paced) == ["before"]
    await paced.pass_time(1)
    assert await began(paced) == []
    assert await state(paced, "late") is TaskState.CANCELLED
    await paced.pass_time(1)
    assert await began(paced) == ["next"]


@meeting("expiry", "idempotency")
async def test_a_repeated_call_is_the_task_that_has_expired(line: Line) -> None:
    await add(line, "a", expires=10)
    await line.pass_time(11)
    assert await began(line) == []
    assert await add(line, "a", expires=10) == Receipt("a", None, duplicate=True)
    assert await state(line, "a") is TaskState.CANCELLED


@meeting("expiry", "delay", REFUSED)
def test_what_would_expire_before_it_is_due() -> None:
    with pytest.raises(Invalid, match="before it is due"):
        TaskCall("add", QUEUE, delay=10, expires=5).check()


@meeting("expiry", "pause")
async def test_what_expires_in_a_paused_queue_never_runs(line: Line) -> None:
    await line.inspector.pause(QUEUE)
    await add(line, "a", expires=10)
    await line.pass_time(11)
    await line.inspector.resume(QUEUE)
    assert await began(line) == []
    assert await state(line, "a") is TaskState.CANCELLED


@meeting("expiry", "schedule")
async def test_a_run_of_a_schedule_expires_so_long_after_its_moment(line: Line) -> None:
    schedules = await declared(line, expires=10.0)
    run = await schedules.run_now("nightly")
    await line.pass_time(11)
    assert await began(line) == []
    assert await state(line, run) is TaskState.CANCELLED


@meeting("expiry", "group")
async def test_a_member_expires_at_a_moment_and_in_no_number_of_seconds(app: Stoker) -> None:
    call = app.tasks["add"].options().prepare()
    with pytest.raises(Invalid, match="expires as a datetime"):
        await group(replace(call, expires=10.0)).enqueue()
    [member] = (await group(replace(call, expires_at=4e9)).enqueue()).ids
    assert (await app.client.inspector.task(QUEUE, member)).expires == 4e12


@meeting("concurrency key", "rate limit")
async def test_parking_uses_nothing_of_the_rate_limit(redis_url: str) -> None:
    async with open_line(redis_url, rate_limit=RateLimit(2, 2)) as line:
        await line.enqueue("a", "b", "c", limit=ONE)
        await line.enqueue("other")
        assert await began(line) == ["a", "other"]


@meeting("concurrency key", "delay")
async def test_a_delayed_task_is_parked_when_it_is_due(line: Line) -> None:
    await line.enqueue("running", limit=ONE)
    await add(line, "a", delay=10, limit=ONE)
    [running] = await begin(line)
    assert ((await line.stats()).parked, (await line.stats()).scheduled) == (0, 1)
    await line.pass_time(11)
    assert await began(line) == []
    assert (await line.stats()).parked == 1
    await end(line, running)
    assert await began(line) == ["a"]


@meeting("concurrency key", "pause")
async def test_a_parked_task_whose_turn_comes_in_a_pause_runs_after_it(line: Line) -> None:
    await line.enqueue("running", "a", limit=ONE)
    [running] = await begin(line)
    await line.inspector.pause(QUEUE)
    await end(line, running)
    assert await began(line) == []
    await line.inspector.resume(QUEUE)
    assert await began(line) == ["a"]


@meeting("concurrency key", "cancel")
async def test_a_parked_task_that_is_cancelled_leaves_its_turn_to_the_next(line: Line) -> None:
    await line.enqueue("running", "a", "b", limit=ONE)
    [running] = await begin(line)
    await line.inspector.cancel(QUEUE, ["a"])
    await end(line, running)
    assert await began(line) == ["b"]


@meeting("concurrency key", "schedule")
async def test_a_run_of_a_schedule_has_its_key(line: Line) -> None:
    schedules = await declared(line, limit=ONE)
    await line.enqueue("running", limit=ONE)
    assert await began(line) == ["running"]
    await schedules.run_now("nightly")
    assert await began(line) == []
    assert (await line.stats()).parked == 1


async def declared(line: Line, **definition: Any) -> Schedules:
    schedules = Schedules(line.redis, line.keys)
    await schedules.register("code", 1, [Definition("nightly", ANY_TIME, "add", **definition)])
    return schedules


@meeting("concurrency key", "group")
async def test_members_have_their_keys(app: Stoker) -> None:
    call = replace(app.tasks["add"].options().prepare(), limit=ONE)
    await group(call, call).enqueue()
    assert len(await taken(app, QUEUE)) == 1


async def taken(app: Stoker, partition: str) -> list[Delivery]:
    return (await Broker(app.client._redis, Keys(app.namespace, partition)).turn([], 10, "w")).deliveries


@meeting("concurrency key", "partition")
def test_tasks_of_one_key_meet_in_one_partition() -> None:
    names = partition_names(QUEUE, 8)
    assert len({partition_of(PartitionKey(str(number), limit="key"), names) for number in range(50)}) == 1


@meeting("rate limit", "delay")
async def test_what_falls_due_together_starts_at_the_rate(paced: Line) -> None:
    await paced.enqueue("a", "b", delay=10)
    await paced.pass_time(11)
    assert await began(paced) == ["a"]
    assert await began(paced) == []
    await paced.pass_time(1)
    assert await began(paced) == ["b"]


@meeting("rate limit", "pause")
async def test_a_pause_uses_nothing_of_the_rate_limit(paced: Line) -> None:
    await paced.enqueue("a")
    await paced.inspector.pause(QUEUE)
    assert await began(paced) == []
    await paced.inspector.resume(QUEUE)
    assert await began(paced) == ["a"]


@meeting("rate limit", "cancel")
async def test_what_is_cancelled_before_its_turn_uses_nothing_of_the_rate_limit(paced: Line) -> None:
    await paced.enqueue("before", "a", "b")
    assert await began(paced) == ["before"]
    await paced.inspector.cancel(QUEUE, ["a"])
    await paced.pass_time(1)
    assert await began(paced) == ["b"]


@meeting("rate limit", "partition")
def test_partitions_share_the_rate_limit() -> None:
    assert _share_of_limit(RateLimit(100, 20), 4) == RateLimit(25, 5)
    assert _share_of_limit(RateLimit(1, 1), 4) == RateLimit(1, 1)


@meeting("idempotency", "delay")
async def test_a_repeated_call_does_not_move_the_time(line: Line) -> None:
    await add(line, "a", delay=10)
    assert (await add(line, "a", delay=1000)).duplicate
    await line.pass_time(11)
    assert await began(line) == ["a"]


@meeting("idempotency", "cancel")
async def test_a_repeated_call_does_not_bring_a_cancelled_task_back(line: Line) -> None:
    await add(line, "a")
    await line.inspector.cancel(QUEUE, ["a"])
    assert (await add(line, "a")).duplicate
    assert await began(line) == []


@meeting("idempotency", "schedule", REFUSED)
def test_a_schedule_names_its_runs() -> None:
    refused_for_schedules(id="mine")
    refused_for_schedules(idempotency_key="mine")


@meeting("idempotency", "group", REFUSED)
async def test_members_have_no_ids_of_their_own(app: Stoker) -> None:
    with pytest.raises(Invalid, match="own id or key"):
        await group(replace(app.tasks["add"].options().prepare(), idempotency_key="mine")).enqueue()


@meeting("idempotency", "partition")
def test_one_id_belongs_to_one_partition() -> None:
    names = partition_names(QUEUE, 8)
    assert len({partition_of(PartitionKey("mine"), names) for _ in range(50)}) == 1


@meeting("delay", "pause")
async def test_what_falls_due_in_a_pause_runs_after_it(line: Line) -> None:
    await line.inspector.pause(QUEUE)
    await add(line, "a", delay=10)
    await line.pass_time(11)
    assert await began(line) == []
    await line.inspector.resume(QUEUE)
    assert await began(line) == ["a"]


@meeting("delay", "cancel")
async def test_a_cancelled_task_does_not_fall_due(line: Line) -> None:
    await add(line, "a", delay=10)
    assert await line.inspector.cancel(QUEUE, ["a"]) == [Cancellation.CANCELLED]
    await line.pass_time(11)
    assert await began(line) == []


@meeting("delay", "schedule", REFUSED)
def test_a_schedule_says_when() -> None:
    refused_for_schedules(delay=10.0)
    refused_for_schedules(run_at=4e9)


@meeting("delay", "group")
async def test_a_member_may_wait_for_its_time(app: Stoker) -> None:
    call = app.tasks["add"].options().prepare()
    workflow = await group(replace(call, delay=10.0), call).enqueue()
    states = [(await app.client.inspector.task(QUEUE, member)).state for member in workflow.ids]
    assert states == [TaskState.SCHEDULED, TaskState.READY]


@meeting("pause", "cancel")
async def test_a_task_in_a_paused_queue_is_cancelled_at_once(line: Line) -> None:
    await line.inspector.pause(QUEUE)
    await add(line, "a")
    assert await line.inspector.cancel(QUEUE, ["a"]) == [Cancellation.CANCELLED]
    await line.inspector.resume(QUEUE)
    assert await began(line) == []


@meeting("pause", "schedule")
async def test_a_run_that_starts_in_a_pause_waits_for_its_end(line: Line) -> None:
    schedules = await declared(line)
    await line.inspector.pause(QUEUE)
    run = await schedules.run_now("nightly")
    assert await began(line) == []
    await line.inspector.resume(QUEUE)
    assert await began(line) == [run]


@meeting("pause", "partition")
async def test_a_pause_is_of_all_partitions(app: Stoker) -> None:
    await partitioned(app)
    await app.enqueue_many([TaskCall("add", QUEUE) for _ in range(20)])
    await app.client.inspector.pause(QUEUE)
    assert not [delivery for name in partition_names(QUEUE, 2) for delivery in await taken(app, name)]
    await app.client.inspector.resume(QUEUE)
    for name in partition_names(QUEUE, 2):
        assert await taken(app, name)


async def partitioned(app: Stoker) -> None:
    await Partitions(app.client._redis, app.namespace).register(QUEUE, 2)


@meeting("cancel", "schedule")
async def test_cancelling_a_run_leaves_the_schedule(line: Line) -> None:
    schedules = await declared(line)
    run = await schedules.run_now("nightly")
    assert await line.inspector.cancel(QUEUE, [run]) == [Cancellation.CANCELLED]
    [status] = await schedules.all()
    assert status.next_run is not None


@meeting("cancel", "group")
async def test_a_cancelled_member_breaks_its_group(app: Stoker) -> None:
    call = app.tasks["add"].options().prepare()
    workflow = await chain(group(call, call), call).enqueue()
    [first, _] = await taken(app, QUEUE)
    redis, keys = app.client._redis, Keys(app.namespace, QUEUE)
    turn = await Broker(redis, keys).turn([Settlement(first.id, first.fence, Cancel(), 0.0)], 0, "w")
    assert not turn.refused
    outbox = Outbox(redis, keys)
    await outbox.relay(await outbox.read())
    status = await app.client.inspector.task(QUEUE, workflow.id)
    assert (status.state, status.failure and status.failure.type) == (TaskState.DEAD, "GroupBroken")


@meeting("cancel", "partition")
async def test_a_task_is_cancelled_in_whatever_partition_it_is(app: Stoker) -> None:
    await partitioned(app)
    ids = [receipt.id for receipt in await app.enqueue_many([TaskCall("add", QUEUE) for _ in range(20)])]
    assert set(await app.client.inspector.cancel(QUEUE, ids)) == {Cancellation.CANCELLED}


@meeting("schedule", "partition")
async def test_runs_of_a_schedule_start_in_the_first_partition(app: Stoker) -> None:
    await partitioned(app)
    schedules = Schedules(app.client._redis, Keys(app.namespace, QUEUE))
    await schedules.register("code", 1, [Definition("nightly", ANY_TIME, "add")])
    run = await schedules.run_now("nightly")
    assert [delivery.id for delivery in await taken(app, QUEUE)] == [run]


@meeting("group", "partition")
async def test_members_spread_over_the_partitions(app: Stoker) -> None:
    await partitioned(app)
    await group(*(app.tasks["add"].options().prepare() for _ in range(20))).enqueue()
    counts = [len(await taken(app, name)) for name in partition_names(QUEUE, 2)]
    assert all(counts)
