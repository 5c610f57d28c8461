"""Of all tasks that claim the same, one is there: never two at once, and never none that keeps others out."""

import asyncio
import itertools

import pytest
from msgspec.structs import replace

from stoker.errors import Conflict
from stoker.queue.records import Receipt, receipts
from stoker.rules.admission import Admission
from stoker.rules.settle import Bury, Cancel, Release, Retry, Snooze, Transition
from stoker.rules.states import TaskState
from stoker.rules.unique import Claim, Until
from tests.engine.line import DONE, FAILURE, LEASE, Line, message, now

TTL = 1000.0
WAIT: list[Transition] = [Retry(0, FAILURE), Retry(5, FAILURE), Snooze(5), Release()]
END: list[Transition] = [DONE, Bury(FAILURE), Cancel()]


probes = itertools.count()


def verb(transition: Transition) -> str:
    return repr(transition)


async def enqueue(line: Line, task_id: str, until: Until = "done", delay: float = 0.0, kind: str = "kind") -> Receipt:
    [receipt] = await line.broker.enqueue([Admission(message(task_id), delay, claim=Claim(kind, until, TTL))])
    return receipt


async def kept_out_by(line: Line, holder: str) -> bool:
    """Whether this task keeps another of its kind out; none is added either way."""
    probe = f"probe-{next(probes)}"
    receipt = await enqueue(line, probe)
    if receipt.id == holder:
        assert receipt == Receipt(holder, None, duplicate=True)
        return True
    assert receipt.id == probe
    assert not receipt.duplicate
    await line.inspector.cancel("emails", [probe])
    return False


@pytest.mark.parametrize("until", ["started", "done"])
@pytest.mark.parametrize("delay", [0.0, 50.0], ids=["ready", "scheduled"])
async def test_a_second_one_is_the_first(line: Line, until: Until, delay: float) -> None:
    assert not (await enqueue(line, "a", until, delay)).duplicate
    assert await enqueue(line, "b", until) == Receipt("a", None, duplicate=True)
    assert not (await enqueue(line, "c", until, kind="another kind")).duplicate
    assert (await line.stats()).totals.deduplicated == 1
    assert (await line.stats()).totals.enqueued == 2


async def test_the_same_id_again_is_a_repeated_call(line: Line) -> None:
    await enqueue(line, "a")
    assert await enqueue(line, "a") == Receipt("a", None, duplicate=True)
    with pytest.raises(Conflict):
        receipts(await line.broker.enqueue([Admission(message("a", other=1), claim=Claim("kind", "done", TTL))]))
    assert await kept_out_by(line, "a")
    [first] = await line.fetch()
    await line.settle(first, DONE)
    await enqueue(line, "b")
    assert await enqueue(line, "a") == Receipt("a", None, duplicate=True), "it was enqueued, and has run"


async def test_within_one_batch_the_first_wins(line: Line) -> None:
    claim = Claim("kind", "done", TTL)
    answers = await line.broker.enqueue([Admission(message(f"t{n}"), claim=claim if n % 2 else None) for n in range(6)])
    assert [receipt.id for receipt in receipts(answers)] == ["t0", "t1", "t2", "t1", "t4", "t1"]
    assert await line.order() == ["t0", "t1", "t2", "t4"]


async def test_until_it_has_started(line: Line) -> None:
    await enqueue(line, "a", "started")
    assert await kept_out_by(line, "a")
    [first] = await line.fetch(1)
    assert not await kept_out_by(line, "a")
    await enqueue(line, "b", "started")
    assert await line.settle(first, Release())
    assert await kept_out_by(line, "b"), "the first waits again, beside the second; it holds nothing any more"


@pytest.mark.parametrize("end", END, ids=verb)
async def test_until_it_is_done(line: Line, end: Transition) -> None:
    await enqueue(line, "a")
    [delivery] = await line.fetch()
    assert await kept_out_by(line, "a")
    await line.settle(delivery, end)
    assert not await kept_out_by(line, "a")


@pytest.mark.parametrize("wait", WAIT, ids=verb)
async def test_one_that_runs_again_keeps_its_claim(line: Line, wait: Transition) -> None:
    await enqueue(line, "a")
    [delivery] = await line.fetch()
    await line.settle(delivery, wait)
    assert await kept_out_by(line, "a")
    await line.pass_time(6)
    [delivery] = await line.fetch()
    assert await kept_out_by(line, "a")
    await line.settle(delivery, DONE)
    assert not await kept_out_by(line, "a")


async def test_a_crash_keeps_the_claim_until_the_task_is_dead(line: Line) -> None:
    await enqueue(line, "a")
    for losses in range(3):
        assert await kept_out_by(line, "a")
        assert len(await line.fetch()) == 1
        await line.pass_time(LEASE + 1)
        assert (await line.broker.reap()).buried == (losses == 2)
    assert not await kept_out_by(line, "a")


async def test_a_late_settle_frees_nothing(line: Line) -> None:
    await enqueue(line, "a")
    [lost] = await line.fetch()
    await line.pass_time(LEASE + 1)
    await line.broker.reap()
    assert not await line.settle(lost, DONE)
    assert await kept_out_by(line, "a")


@pytest.mark.parametrize("delay", [0.0, 50.0], ids=["ready", "scheduled"])
async def test_cancel_and_purge_free_it(line: Line, delay: float) -> None:
    state = TaskState.SCHEDULED if delay else TaskState.READY
    await enqueue(line, "a", delay=delay)
    await line.inspector.cancel("emails", ["a"])
    assert not await kept_out_by(line, "a")
    await enqueue(line, "b", delay=delay)
    assert sum([gone async for gone in line.inspector.purge("emails", state)]) == 1
    await line.check()
    assert not await kept_out_by(line, "b")


async def test_a_running_one_whose_worker_died_is_cancelled_and_frees_it(line: Line) -> None:
    await enqueue(line, "a")
    await line.fetch()
    await line.inspector.cancel("emails", ["a"])
    assert await kept_out_by(line, "a")
    await line.pass_time(LEASE + 1)
    await line.broker.reap()
    assert not await kept_out_by(line, "a")


async def test_after_its_time_another_takes_over(line: Line) -> None:
    """What the first does afterwards is no business of the second's."""
    await enqueue(line, "a", delay=50)
    await line.pass_time(50 + TTL - 5)
    assert await kept_out_by(line, "a"), "the time counts from when it was due"
    await line.pass_time(6)
    assert not (await enqueue(line, "b")).duplicate
    await line.check()
    [first] = await line.fetch(1)
    assert first.id == "a"
    await line.settle(first, DONE)
    assert await kept_out_by(line, "b")


async def enqueue_until(line: Line, expires: int, delay: float) -> None:
    task = replace(message("a", text='"expires":1'), expires=expires)
    await line.broker.enqueue([Admission(task, delay, claim=Claim("kind", "done", TTL))])


@pytest.mark.parametrize("delay", [0.0, 50.0], ids=["ready", "scheduled"])
async def test_one_that_expired_while_it_waited_keeps_no_other_out(line: Line, delay: float) -> None:
    """It will never run: its kind would not run at all. It lies there until a worker fetches it."""
    await enqueue_until(line, await line.clock() + 30_000, delay)
    assert await kept_out_by(line, "a")
    await line.pass_time(31)
    assert not (await enqueue(line, "b")).duplicate
    assert await kept_out_by(line, "b")
    await line.pass_time(50)
    [expired] = [each for each in await line.fetch() if each.id == "a"]
    await line.settle(expired, Cancel())
    assert await kept_out_by(line, "b"), "the end of the expired one frees no other's claim"
    assert await line.examine() == []


async def test_one_that_runs_past_its_expiry_keeps_others_out(line: Line) -> None:
    await enqueue_until(line, await line.clock() + 10_000, 0.0)
    await line.fetch()
    await line.pass_time(15)
    assert await kept_out_by(line, "a")


async def test_a_payload_that_speaks_of_an_expiry_is_none(line: Line) -> None:
    await line.broker.enqueue([Admission(message("a", expires=1, text='"expires":1'), claim=Claim("kind", "done", TTL))])
    assert await kept_out_by(line, "a")


async def test_a_claim_whose_holder_does_not_exist_keeps_no_task_out(line: Line) -> None:
    await enqueue(line, "a")
    await now(line.redis.hdel(line.keys.tasks, "a"))
    await now(line.redis.zrem(line.keys.ready, "a"))
    assert not await kept_out_by(line, "a")


async def test_a_redrive_takes_no_claim(line: Line) -> None:
    """A person's word: it runs, whether or not another has taken its place meanwhile."""
    await enqueue(line, "a")
    [delivery] = await line.fetch()
    await line.settle(delivery, Bury(FAILURE))
    await enqueue(line, "b")
    assert await line.inspector.redrive("emails", ["a"]) == ["a"]
    assert await kept_out_by(line, "b")
    assert {delivery.id for delivery in await line.fetch()} == {"a", "b"}


async def test_the_doctor_frees_stale_uniqueness_locks(line: Line) -> None:
    await enqueue(line, "a")
    await enqueue(line, "b", kind="other")
    await line.enqueue("c")
    await now(line.redis.hset(line.keys.uniques, "kind", "1900000000000 c"))
    await now(line.redis.hset(line.keys.claims, "c", "d other"))
    assert {(finding.id, finding.trouble) for finding in await line.examine()} == {
        ("a", "stray claim"),
        ("c", "stray claim"),
        ("c", "stale uniqueness lock"),
    }
    await line.examine(mend=True)
    assert await line.examine() == []
    assert (await enqueue(line, "d", kind="other")).id == "b", "what is sound stays"
    await now(line.redis.hdel(line.keys.uniques, "kind"))
    assert await kept_out_by(line, "none") is False


async def test_many_at_once_make_one(line: Line) -> None:
    """Concurrent enqueues, again and again while it runs and ends: at no time are there two."""
    held = 0
    for step in range(30):
        found = await asyncio.gather(*(enqueue(line, f"{step}-{n}") for n in range(40)))
        new = [receipt for receipt in found if not receipt.duplicate]
        assert len(new) == 1
        assert {receipt.id for receipt in found} == {new[0].id}
        held += len(found) - 1
        [delivery] = await line.fetch()
        ends, *rest = await asyncio.gather(line.settle(delivery, DONE), *(enqueue(line, f"{step}-late-{n}") for n in range(20)))
        assert ends
        after = [receipt for receipt in rest if not receipt.duplicate]
        assert len(after) <= 1
        assert {receipt.id for receipt in rest} <= {delivery.id, *(receipt.id for receipt in after)}
        for delivery in await line.fetch():
            await line.settle(delivery, DONE)
    assert (await line.stats()).running == 0
