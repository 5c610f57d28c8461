"""One deduplicating queue: nothing twice, nothing lost, nobody two at a time."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from stoker_operator.state.ref import Ref
from stoker_operator.work_queue import SHARE, WorkQueue

A, B = Ref("shop", "a"), Ref("shop", "b")


async def rest(queue: WorkQueue) -> list[Ref]:
    """Whatever can be had now."""
    taken = []
    while True:
        try:
            async with asyncio.timeout(0.02), queue.take() as ref:
                taken.append(ref)
        except TimeoutError:
            return taken


async def test_what_is_added_twice_is_looked_at_once() -> None:
    queue = WorkQueue()
    for ref in (A, B, A, A):
        queue.add(ref)
    assert await rest(queue) == [A, B]


async def test_what_is_added_meanwhile_is_looked_at_again_afterwards() -> None:
    queue = WorkQueue()
    queue.add(A)
    async with queue.take() as ref:
        queue.add(A)
        assert ref == A
        assert await rest(queue) == []  # not by two at a time
    assert await rest(queue) == [A]


async def test_a_look_makes_a_later_one_needless() -> None:
    queue = WorkQueue()
    queue.add_after(A, 0.01)
    queue.add(A)
    assert await rest(queue) == [A]
    assert await rest(queue) == []


async def test_what_is_for_later_comes_later() -> None:
    queue = WorkQueue()
    queue.add_after(A, 0.01)
    async with asyncio.timeout(1), queue.take() as ref:
        assert ref == A


async def test_pauses_double_up_to_a_minute_and_start_over_after_a_success() -> None:
    queue = WorkQueue()
    assert [queue.failed(A) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert queue.failed(B) == 1
    queue.succeeded(A)
    assert queue.failed(A) == 1


async def test_a_pause_is_as_long_as_the_api_server_asks_for() -> None:
    queue = WorkQueue()
    assert [queue.failed(A, 7.0) for _ in range(5)] == [7, 7, 7, 8, 16]


async def test_a_look_that_raises_lets_go() -> None:
    queue = WorkQueue()
    queue.add(A)
    with pytest.raises(RuntimeError):
        async with queue.take():
            raise RuntimeError
    queue.add(A)
    assert await rest(queue) == [A]


async def test_one_namespace_is_processed_by_a_few_at_a_time() -> None:
    """Its passes may all hang at its own Redis."""
    queue = WorkQueue()
    async with AsyncExitStack() as stack:
        for number in range(SHARE + 3):
            queue.add(Ref("stuck", f"queue-{number}"))
        for _ in range(SHARE):
            await stack.enter_async_context(queue.take())
        assert await rest(queue) == []
        queue.add(A)
        assert await rest(queue) == [A]
    assert len(await rest(queue)) == 3
