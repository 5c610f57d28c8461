"""A pod that has ended: what its processes held is given back at once, and nothing else is."""

import json

import msgspec

from stoker.queue.reaping import Reaped, lost_too_often
from stoker.queue.records import Delivery
from stoker.queue.scripts import ScriptCall, run
from stoker.rules.losses import LossCause
from stoker.rules.states import TaskState
from tests.engine.line import DONE, LEASE, QUEUE, Line, now


def process(pod: str, pid: int = 7) -> str:
    return f"{pod}-{pid}-abcdef"


async def takes_one(line: Line, worker: str) -> Delivery:
    [delivery] = await line.fetch(1, worker)
    await line.beat(delivery, worker=worker)
    return delivery


async def test_all_processes_of_a_pod_and_no_other_pods(line: Line) -> None:
    await line.enqueue("a", "b", "c", "d", "e")
    for worker in (process("a-1", 7), process("a-1", 8), process("a-12"), process("a"), process("a-1-7")):
        await takes_one(line, worker)
    assert await line.inspector.reap_worker(QUEUE, "a-1", 3) == Reaped(2, 0, 2)
    states = [(await line.status(task_id)).state for task_id in "abcde"]
    assert states == [TaskState.READY, TaskState.READY, TaskState.RUNNING, TaskState.RUNNING, TaskState.RUNNING]
    assert (await line.stats()).workers == 3
    assert await line.inspector.reap_worker(QUEUE, "a-1", 3) == Reaped(0, 0, 0)


async def test_its_late_writes_are_refused(line: Line) -> None:
    await line.enqueue("a")
    delivery = await takes_one(line, process("pod"))
    await line.inspector.reap_worker(QUEUE, "pod", 3)
    assert not await line.settle(delivery, DONE)
    assert (await line.beat(delivery, worker=process("pod"))).lost == [delivery.fence]


async def test_lost_too_often_it_is_buried(line: Line) -> None:
    await line.enqueue("killer")
    for attempt in (1, 2, 3):
        [delivery] = await line.fetch(worker=process("pod"))
        assert delivery.losses == attempt - 1
        reaped = await line.inspector.reap_worker(QUEUE, "pod", 3)
        assert (reaped.given_back, reaped.buried) == ((1, 0) if attempt < 3 else (0, 1))
    assert (await line.stats()).totals.lost == 3
    assert (await line.status("killer")).state is TaskState.DEAD


async def test_an_innocent_loss_does_not_count(line: Line) -> None:
    """However often: and its cause is in the history, and why says it."""
    await line.enqueue("a")
    for _ in range(4):
        [delivery] = await line.fetch(worker=process("pod"))
        assert (delivery.losses, delivery.last_life) == (0, False)
        reaped = await line.inspector.reap_worker(QUEUE, "pod", 3, LossCause.EVICTED_BY_API)
        assert (reaped.given_back, reaped.buried) == (1, 0)
    status = await line.status("a")
    assert (status.state, status.losses) == (TaskState.READY, 0)
    assert {(past.cause, past.message) for past in status.history} == {
        ("evicted_by_api", "its worker was seen to end: evicted through the API")
    }
    assert (await line.inspector.explain(QUEUE, "a")).history == status.history


async def test_on_its_last_life_an_innocent_loss_takes_nothing(line: Line) -> None:
    await line.enqueue("a")
    for cause in (LossCause.CRASHED, LossCause.OUT_OF_MEMORY, LossCause.DELETED):
        await line.fetch(worker=process("pod"))
        assert (await line.inspector.reap_worker(QUEUE, "pod", 3, cause)).given_back == 1
    [delivery] = await line.fetch(worker=process("pod"))
    assert delivery.last_life
    assert (await line.inspector.reap_worker(QUEUE, "pod", 3, LossCause.OUT_OF_MEMORY)).buried == 1
    failure = (await line.status("a")).failure
    assert failure
    assert "3 times with the worker that ran it (the last time: killed, out of memory)" in failure.message


async def test_a_cause_that_this_version_does_not_know_is_none(line: Line) -> None:
    await line.enqueue("a")
    await takes_one(line, process("pod"))
    await line.inspector.reap_worker(QUEUE, "pod", 3, LossCause.NODE_GONE)
    [past] = (await line.status("a")).history
    text = msgspec.json.encode(msgspec.structs.replace(past, cause="x" * 10_000))
    await now(line.redis.hset(line.keys.history, "a", text))
    [past] = (await line.status("a")).history
    assert past.cause is None


async def test_a_cancelled_one_is_cancelled(line: Line) -> None:
    await line.enqueue("a")
    await takes_one(line, process("pod"))
    await line.inspector.cancel(QUEUE, ["a"])
    await line.inspector.reap_worker(QUEUE, "pod", 3)
    assert (await line.status("a")).state is TaskState.CANCELLED


async def test_more_than_one_call_takes(line: Line) -> None:
    await line.enqueue(*(f"t{number:03}" for number in range(250)))
    await line.fetch(200, process("pod"))
    await line.fetch(50, process("pod", 8))
    reaped = await line.inspector.reap_worker(QUEUE, "pod", 3)
    assert (reaped.given_back, reaped.buried) == (250, 0)


async def test_what_has_moved_on_meanwhile_is_left_alone(line: Line) -> None:
    """Between looking and taking back, a task may have ended, or run with another worker."""
    await line.enqueue("a", "b")
    ended, moved = await line.fetch(2, process("pod"))
    await line.settle(ended, DONE)
    await line.inspector.reap_worker(QUEUE, "pod", 3)
    await line.fetch(1, process("other"))
    arguments = [3, lost_too_often(3), "seen to end", "", 0, 1, process("pod"), ended.id, ended.fence, moved.id, moved.fence]
    [reply] = await run(line.redis, ScriptCall("reap_worker", line.keys, arguments))
    assert reply == [0, 0, 0]
    assert (await line.status("b")).worker == process("other")


async def test_what_is_given_back_wakes_a_worker(line: Line) -> None:
    """By the reaper, and by who saw a pod end: nobody has to come by for it."""
    await line.enqueue("a")
    await line.fetch(worker=process("pod"))
    while await line.broker.wait_for_work(0.01):
        pass  # the token of the enqueue
    await line.inspector.reap_worker(QUEUE, "pod", 9)
    assert await line.broker.wait_for_work(0.1)
    await line.fetch(worker=process("pod"))
    await line.pass_time(LEASE + 1)
    assert (await line.broker.reap()).given_back == 1
    assert await line.broker.wait_for_work(0.1)


def test_the_reason_is_one_that_people_can_read() -> None:
    assert json.loads(lost_too_often(3))["type"] == "WorkerLost"
