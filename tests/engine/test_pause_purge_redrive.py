"""What an operator may do to a queue: pause, resume, purge, redrive by kind, examine and mend."""

import pytest

from stoker.errors import Invalid, NotFound
from stoker.rules.settle import Bury, Failure
from stoker.rules.states import TaskState
from tests.engine.line import FAILURE, QUEUE, Line, now


async def purge(line: Line, state: TaskState) -> int:
    return sum([gone async for gone in line.inspector.purge(QUEUE, state)])


async def test_a_paused_queue_hands_out_nothing_and_goes_on_when_resumed(line: Line) -> None:
    await line.enqueue("a")
    assert await line.inspector.pause(QUEUE)
    assert not await line.inspector.pause(QUEUE), "it was paused already"
    await now(line.redis.delete(line.keys.wake))
    assert await line.fetch() == []
    assert (await line.stats()).paused
    assert await line.inspector.resume(QUEUE)
    assert await now(line.redis.llen(line.keys.wake)) == 1, "somebody is woken for what waits"
    assert await line.order() == ["a"]


@pytest.mark.parametrize("state", [TaskState.READY, TaskState.SCHEDULED, TaskState.DEAD, TaskState.SUCCEEDED, TaskState.CANCELLED])
async def test_purge_empties_one_state_and_no_other(line: Line, state: TaskState) -> None:
    await line.enqueue("dead", "done", "cancelled")
    for delivery in await line.fetch(2):
        await line.settle(delivery, Bury(FAILURE))
    await line.inspector.cancel(QUEUE, ["cancelled"])
    await line.enqueue(*[f"ready-{n}" for n in range(250)])
    await line.enqueue("later", delay=60)
    before = await line.stats()
    gone = await purge(line, state)
    after = await line.stats()
    assert gone == getattr(before, state)
    assert sum((after.ready, after.scheduled, after.dead, after.succeeded, after.cancelled)) == 254 - gone


async def test_running_tasks_are_not_purged(line: Line) -> None:
    with pytest.raises(Invalid, match="cancel them"):
        await purge(line, TaskState.RUNNING)


async def bury(line: Line, *ids: str, kind: str) -> None:
    await line.enqueue(*ids)
    while taken := await line.fetch():
        for delivery in taken:
            await line.settle(delivery, Bury(Failure(kind, "no")))


async def test_redrive_takes_one_kind_of_failure(line: Line) -> None:
    await bury(line, "a", "b", kind="Timeout")
    await bury(line, "c", kind="ValueError")
    pages = [page async for page in line.inspector.redrive_all(QUEUE, failure="Timeout")]
    assert pages == [["a", "b"]]
    assert (await line.stats()).dead == 1


async def test_redrive_takes_no_more_than_asked(line: Line) -> None:
    await bury(line, *[f"t{n:03}" for n in range(120)], kind="Timeout")
    pages = [page async for page in line.inspector.redrive_all(QUEUE, task="add", limit=70)]
    assert [len(page) for page in pages] == [50, 20]
    assert (await line.stats()).ready == 70


async def test_the_doctor_finds_and_mends_planted_damage(line: Line) -> None:
    await line.enqueue("sound", "nowhere", "twice", "owned", "bodiless")
    await line.enqueue("urgent", delay=60, priority=7)
    redis, k = line.redis, line.keys
    await now(redis.zrem(k.ready, "nowhere"))
    await now(redis.zrem(k.scheduled, "urgent"))
    await now(redis.zadd(k.dead, {"twice": 1}))
    await now(redis.hset(k.owners, "owned", "0000000000000001:w:x 0"))
    await now(redis.hdel(k.tasks, "bodiless"))
    await now(redis.hset(k.errors, "stray", "{}"))
    with pytest.raises(NotFound, match="doctor"):
        await line.status("nowhere")
    expected = {
        ("nowhere", "in no state"),
        ("urgent", "in no state"),
        ("twice", "in two states"),
        ("owned", "owner without lease"),
        ("bodiless", "without envelope"),
        ("stray", "without envelope"),
    }
    assert {(finding.id, finding.trouble) for finding in await line.examine()} == expected
    assert {(finding.id, finding.trouble) for finding in await line.examine(mend=True)} == expected
    assert await line.examine() == []
    await line.check()
    assert (await line.stats()).totals.mended == 6
    assert set(await line.order()) == {"sound", "nowhere", "twice", "owned", "urgent"}


async def test_the_doctor_walks_a_large_queue_in_steps(line: Line) -> None:
    await line.enqueue(*[f"t{n}" for n in range(1234)])
    assert await line.examine() == []
    await now(line.redis.zrem(line.keys.ready, "t7", "t1233"))
    assert {finding.id for finding in await line.examine(mend=True)} == {"t7", "t1233"}
