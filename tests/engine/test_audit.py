"""The audit: every act of a person that has changed something, and no act of a program."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from stoker.queue.reads.inspector import Inspector
from stoker.rules.audit import MOST_KEPT, Act, decode_act, encode_act
from stoker.rules.identity import Holder
from stoker.rules.schedule import Definition, cron
from stoker.rules.settle import Bury
from stoker.rules.states import TaskState
from tests.engine.line import FAILURE, NAMESPACE, QUEUE, Line, now

ALICE = "alice@laptop"


@pytest.fixture
async def alice(line: Line) -> Inspector:
    return Inspector(line.redis, NAMESPACE, ALICE)


async def dead(line: Line, *ids: str) -> None:
    await line.enqueue(*ids)
    for delivery in await line.fetch():
        await line.settle(delivery, Bury(FAILURE))


async def everything(pages: AsyncIterator[Any]) -> list[Any]:
    return [page async for page in pages]


async def last(alice: Inspector) -> tuple[str, int, str]:
    [act, *_] = await alice.audit(QUEUE)
    assert act.by == ALICE
    assert act.at > 1_700_000_000_000
    return act.act, act.count, act.detail


async def pause(_line: Line, alice: Inspector) -> None:
    await alice.pause(QUEUE)


async def resume(_line: Line, alice: Inspector) -> None:
    await alice.pause(QUEUE)
    await alice.resume(QUEUE)


async def cancel(line: Line, alice: Inspector) -> None:
    await line.enqueue("a", "b")
    await alice.cancel(QUEUE, ["a", "b", "unknown"])


async def redrive_one(line: Line, alice: Inspector) -> None:
    await dead(line, "a")
    await alice.redrive(QUEUE, ["a"])


async def redrive_matching(line: Line, alice: Inspector) -> None:
    await dead(line, *(f"t{number}" for number in range(70)))
    await everything(alice.redrive_all(QUEUE, failure=FAILURE.type))


async def redrive_until_interrupted(line: Line, alice: Inspector) -> None:
    await dead(line, *(f"t{number}" for number in range(70)))
    pages = alice.redrive_all(QUEUE)
    await anext(pages)
    await pages.aclose()  # type: ignore[attr-defined]


async def delete(line: Line, alice: Inspector) -> None:
    await dead(line, "a", "b")
    await alice.delete(QUEUE, ["a", "b"])


async def purge(line: Line, alice: Inspector) -> None:
    await line.enqueue("a", "b", "c")
    await everything(alice.purge(QUEUE, TaskState.READY))


async def mend(line: Line, alice: Inspector) -> None:
    await line.enqueue("a")
    await now(line.redis.zrem(line.keys.ready, "a"))
    await everything(alice.examine(QUEUE, mend=True))


async def release_claim(line: Line, alice: Inspector) -> None:
    await line.inspector.claim(QUEUE, Holder("cluster", "shop", "emails", "uid"))
    await alice.release_claim(QUEUE)


async def set_max_wait(_line: Line, alice: Inspector) -> None:
    await alice.set_max_wait(QUEUE, 1.5)


async def run_schedule(line: Line, alice: Inspector) -> None:
    await line.inspector.schedules(QUEUE).register("code:shop", 1, [Definition("hourly", cron("@hourly"), "add")])
    await alice.schedules(QUEUE).run_now("hourly")


async def pause_schedule(line: Line, alice: Inspector) -> None:
    await run_schedule(line, alice)
    await alice.schedules(QUEUE).pause("hourly")


async def resume_schedule(line: Line, alice: Inspector) -> None:
    await pause_schedule(line, alice)
    await alice.schedules(QUEUE).resume("hourly")


async def delete_schedule(line: Line, alice: Inspector) -> None:
    await run_schedule(line, alice)
    await alice.schedules(QUEUE).remove("hourly")


@pytest.mark.parametrize(
    ("act", "recorded"),
    [
        (pause, ("pause", 1, "")),
        (resume, ("resume", 1, "")),
        (cancel, ("cancel", 2, "")),
        (redrive_one, ("redrive", 1, "a")),
        (redrive_matching, ("redrive", 70, f"failure={FAILURE.type}")),
        (redrive_until_interrupted, ("redrive", 50, "all")),
        (delete, ("delete", 2, "")),
        (purge, ("purge", 3, "ready")),
        (mend, ("mend", 1, "")),
        (release_claim, ("release claim", 1, "emails")),
        (set_max_wait, ("set max_wait", 1, "1.5 s")),
        (run_schedule, ("run schedule", 1, "hourly")),
        (pause_schedule, ("pause schedule", 1, "hourly")),
        (resume_schedule, ("resume schedule", 1, "hourly")),
        (delete_schedule, ("delete schedule", 1, "hourly")),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
async def test_an_act_is_recorded(
    line: Line, alice: Inspector, act: Callable[[Line, Inspector], Awaitable[None]], recorded: tuple[str, int, str]
) -> None:
    await act(line, alice)
    assert await last(alice) == recorded


async def test_what_changed_nothing_is_not_recorded(line: Line, alice: Inspector) -> None:
    await alice.resume(QUEUE)
    await alice.cancel(QUEUE, ["unknown"])
    await alice.redrive(QUEUE, ["unknown"])
    await everything(alice.purge(QUEUE, TaskState.DEAD))
    await everything(alice.examine(QUEUE, mend=True))
    assert await alice.audit(QUEUE) == []


async def test_what_a_program_does_is_not_recorded(line: Line, alice: Inspector) -> None:
    """An application that cancels its tasks may do so a thousand times a second."""
    await line.inspector.pause(QUEUE)
    await cancel(line, line.inspector)
    await pause_schedule(line, line.inspector)
    assert await alice.audit(QUEUE) == []


async def test_an_act_stands_where_redis_does_not_take_its_record(
    line: Line, alice: Inspector, caplog: pytest.LogCaptureFixture
) -> None:
    await now(line.redis.set(line.keys.audit, "x"))
    assert await alice.pause(QUEUE)
    [said] = [record.__dict__ for record in caplog.records if record.levelno >= logging.WARNING]
    assert (said["msg"], said["act"], said["by"]) == ("done, but not recorded in the audit", "pause", ALICE)
    assert await alice.audit(QUEUE) == []
    await now(line.redis.delete(line.keys.audit))


async def test_the_audit_is_bounded(line: Line, alice: Inspector) -> None:
    fill = "for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'e', ARGV[2]) end"
    await now(line.redis.eval(fill, 1, line.keys.audit, str(MOST_KEPT + 250), encode_act(Act(ALICE, "resume"))))
    await alice.pause(QUEUE)
    assert MOST_KEPT <= await now(line.redis.xlen(line.keys.audit)) <= MOST_KEPT + 100
    assert [act.act for act in await alice.audit(QUEUE, 3)] == ["pause", "resume", "resume"]


ODD = [b"", b"{", b"[]", b"\xff", b'{"v": 1, "act": {"by": 7}}', b'{"v": 2, "act": {"by": "x", "act": "pause"}}']


@pytest.mark.parametrize("odd", ODD)
def test_an_entry_of_others_reads_as_none(odd: bytes) -> None:
    assert decode_act(odd, 1) is None


def test_long_texts_are_cut() -> None:
    act = decode_act(encode_act(Act("x" * 999, "pause", 1, "y" * 999)), 1)
    assert act is not None
    assert (len(act.by), len(act.detail)) == (200, 200)
