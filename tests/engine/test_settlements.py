"""How deliveries end, and where the tasks are then."""

import msgspec
import pytest

from stoker.errors import NotFound
from stoker.manifest.policies import Keep
from stoker.rules.settle import Bury, Failure, Release, Retry, Snooze, Succeed
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from tests.engine.line import DONE, FAILURE, Line, now, open_line

pytestmark = pytest.mark.every_server


async def test_success_keeps_the_result_for_its_time(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    assert await line.settle(delivery, Succeed(b'{"sum":5}'), busy=1.5)
    status = await line.status("a")
    assert status.state is TaskState.SUCCEEDED
    assert status.result is not None
    assert (bytes(status.result.value), status.result.seconds) == (b'{"sum":5}', 1.5)
    assert status.at is not None
    assert status.at - await line.clock() == pytest.approx(3600_000, abs=5000)
    assert (await line.stats()).totals.busy_ms == 1500


async def test_success_forgets_earlier_failures(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.settle(delivery, Retry(0, FAILURE))
    [delivery] = await line.fetch()
    await line.settle(delivery, DONE)
    status = await line.status("a")
    assert (status.attempts, status.failure) == (0, None)


async def test_where_no_results_are_kept_the_task_is_gone(redis_url: str) -> None:
    async with open_line(redis_url, succeeded=Keep(Duration(0))) as line:
        await line.enqueue("a")
        [delivery] = await line.fetch()
        assert await line.settle(delivery, DONE)
        with pytest.raises(NotFound):
            await line.status("a")
        assert (await line.stats()).totals.succeeded == 1


async def test_a_retry_waits_and_is_charged(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    assert delivery.attempt == 1
    await line.settle(delivery, Retry(5, Failure("SmtpError", "451")))
    status = await line.status("a")
    assert (status.state, status.attempts) == (TaskState.SCHEDULED, 1)
    assert status.failure == Failure("SmtpError", "451")
    assert await line.order() == []
    await line.pass_time(5.1)
    [again] = await line.fetch()
    assert (again.attempt, again.failures) == (2, 1)


@pytest.mark.parametrize("delay", [0, 5], ids=["at once", "later"])
async def test_a_retry_keeps_its_priority(line: Line, delay: float) -> None:
    await line.enqueue("urgent", priority=9)
    await line.enqueue("meek", priority=-9)
    for delivery in await line.fetch():
        await line.settle(delivery, Retry(delay, FAILURE))
    await line.enqueue("plain")
    await line.pass_time(6)
    assert await line.order() == ["urgent", "plain", "meek"]


async def test_a_retry_stands_behind_those_who_came_meanwhile(line: Line) -> None:
    await line.enqueue("failing")
    [delivery] = await line.fetch()
    await line.pass_time(1)
    await line.enqueue("newer")
    await line.pass_time(1)
    await line.settle(delivery, Retry(0, FAILURE))
    assert await line.order() == ["newer", "failing"]


async def test_release_returns_a_task_to_its_position_without_charging_an_attempt(line: Line) -> None:
    ids = ["d", "b", "a", "c"]
    await line.enqueue(*ids)
    await line.enqueue("urgent", priority=1)
    place = await now(line.redis.zscore(line.keys.ready, "b"))
    taken = {delivery.id: delivery for delivery in await line.fetch(4)}
    for task_id in ("a", "urgent", "b", "d"):
        assert await line.settle(taken[task_id], Release())
    assert await now(line.redis.zscore(line.keys.ready, "b")) == place
    assert await line.order() == ["urgent", *ids]
    assert (await line.status("b")).attempts == 0


async def test_snooze_charges_no_attempt(line: Line) -> None:
    await line.enqueue("a", priority=3)
    [delivery] = await line.fetch()
    await line.settle(delivery, Snooze(5))
    status = await line.status("a")
    assert (status.state, status.attempts, status.failure) == (TaskState.SCHEDULED, 0, None)
    stats = await line.stats()
    assert (stats.totals.snoozed, stats.totals.failed, stats.totals.retried) == (1, 0, 0)
    await line.enqueue("plain")
    await line.pass_time(6)
    assert await line.order() == ["a", "plain"]


async def test_the_buried_keep_their_last_words(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.settle(delivery, Bury(Failure("Dead", "the card has expired", "Traceback ...")))
    status = await line.status("a")
    assert (status.state, status.attempts) == (TaskState.DEAD, 1)
    assert status.failure == Failure("Dead", "the card has expired", "Traceback ...")


async def test_counters_tell_the_ends_apart(line: Line) -> None:
    await line.enqueue("a", "b", "c", "d", "e")
    ends = [DONE, Retry(0, FAILURE), Bury(FAILURE), Snooze(9), Release()]
    for delivery, end in zip(await line.fetch(), ends, strict=True):
        await line.settle(delivery, end, busy=0.5)
    stats = await line.stats()
    assert msgspec.to_builtins(stats) | {"oldest_wait": 0, "completion_rate": 0} == {
        "queue": "emails", "ready": 2, "running": 0, "scheduled": 1, "dead": 1, "succeeded": 1, "cancelled": 0, "due": 0,
        "oldest_wait": 0, "workers": 0, "paused": False, "throttled": False, "parked": 0, "schedules": 0, "next_run": None,
        "completion_rate": 0,
        "totals": {
            "enqueued": 5, "succeeded": 1,
            "failed": 2, "retried": 1, "dead": 1, "lost": 0, "released": 1, "snoozed": 1, "cancelled": 0, "mended": 0,
            "redriven": 0, "deduplicated": 0, "stale_settles": 0, "invariant_violations": 0, "busy_ms": 2500, "unclaimed": 0,
        },
        "unclaimed": 0, "unseen": {},
    }  # fmt: skip
