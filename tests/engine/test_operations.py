"""Operations: long acts of people, for others to see how far they are."""

from msgspec.structs import replace

from stoker.queue.operations import RunningOperation, begun
from stoker.queue.reads.inspector import Inspector
from stoker.rules.operation import MOST_KEPT, Operation, OperationState, decode_operation, encode_operation
from stoker.rules.settle import Bury
from stoker.rules.states import TaskState
from tests.engine.line import FAILURE, NAMESPACE, QUEUE, Line, now

ALICE = "alice@laptop"


def acting(line: Line) -> Inspector:
    return Inspector(line.redis, NAMESPACE, ALICE)


async def seventy_dead(line: Line) -> None:
    await line.enqueue(*(f"t{number}" for number in range(70)))
    for delivery in await line.fetch():
        await line.settle(delivery, Bury(FAILURE))


async def test_an_operation_is_seen_while_it_runs(line: Line) -> None:
    alice = acting(line)
    await seventy_dead(line)
    pages = alice.redrive_all(QUEUE, failure=FAILURE.type)
    await anext(pages)
    [running] = await line.inspector.operations()
    assert (running.kind, running.queue, running.by, running.filter) == ("redrive", QUEUE, ALICE, f"failure={FAILURE.type}")
    assert running.state is OperationState.RUNNING
    assert [len(page) async for page in pages] == [20]
    [done] = await line.inspector.operations()
    assert (done.state, done.done, done.number) == (OperationState.DONE, 70, 1)
    assert done.began <= running.updated <= done.updated


async def test_a_stopped_operation_says_so(line: Line) -> None:
    alice = acting(line)
    await seventy_dead(line)
    pages = alice.redrive_all(QUEUE)
    await anext(pages)
    await pages.aclose()  # type: ignore[attr-defined]
    [stopped] = await line.inspector.operations()
    assert (stopped.state, stopped.done) == (OperationState.STOPPED, 50)
    assert [(act.act, act.count) for act in await alice.audit(QUEUE)] == [("redrive", 50)]


async def test_a_purge_is_one_and_what_a_program_does_is_none(line: Line) -> None:
    await line.enqueue("a", "b")
    assert [gone async for gone in line.inspector.purge(QUEUE, TaskState.READY)] == [2]
    assert await line.inspector.operations() == []
    await line.enqueue("c")
    assert [gone async for gone in acting(line).purge(QUEUE, TaskState.READY)] == [1]
    [purge] = await line.inspector.operations()
    assert (purge.kind, purge.filter, purge.done) == ("purge", "ready", 1)


async def test_a_hundred_are_kept_and_one_that_lost_its_place_takes_no_other(line: Line) -> None:
    first = RunningOperation(line.redis, line.keys, begun("redrive", QUEUE, ALICE, "first"))
    await first.record(OperationState.RUNNING)
    for number in range(MOST_KEPT):
        await RunningOperation(line.redis, line.keys, begun("purge", QUEUE, ALICE, str(number))).record(OperationState.DONE)
    await first.record(OperationState.DONE)
    found = await line.inspector.operations()
    assert [each.number for each in found] == list(range(MOST_KEPT + 1, 1, -1))
    assert {each.kind for each in found} == {"purge"}


async def test_values_of_others_are_left_out(line: Line) -> None:
    await RunningOperation(line.redis, line.keys, begun("purge", QUEUE, ALICE)).record(OperationState.DONE)
    odd = [b"", b"{", b"7 {", b"\xff 7", b"x" * (2 << 20), b"-3 {}", b'4 {"v": 1, "operation": {"kind": 7}}']
    for slot, value in enumerate(odd, 10):
        await now(line.redis.hset(line.keys.operations, str(slot), value))
    assert len(await line.inspector.operations()) == 1
    await now(line.redis.set(line.keys.operations, "x"))
    assert await line.inspector.operations() == []
    assert [gone async for gone in acting(line).purge(QUEUE, TaskState.READY)] == [], "it goes on, recorded or not"
    await now(line.redis.delete(line.keys.operations))


def test_a_newer_format_is_none() -> None:
    operation = Operation("redrive", QUEUE, ALICE, 1, 2)
    assert decode_operation(b"7 " + encode_operation(operation)) == replace(operation, number=7)
    assert decode_operation(b"7 " + encode_operation(operation).replace(b'"v":1', b'"v":2')) is None
