"""Namespaces take turns: one with a thousand names, or with passes that hang, delays no other."""

import asyncio
from contextlib import AsyncExitStack

from stoker_operator.fair_queue import FairQueue


async def taken(queue: FairQueue[str], stack: AsyncExitStack) -> str | None:
    """The next item, processed until the stack ends; None without any."""
    try:
        async with asyncio.timeout(0.02):
            return await stack.enter_async_context(queue.take())
    except TimeoutError:
        return None


async def test_namespaces_take_turns() -> None:
    queue: FairQueue[str] = FairQueue(share=9)
    for number in range(3):
        queue.put("much", f"much-{number}")
    queue.put("little", "little-0")
    async with AsyncExitStack() as stack:
        assert [await taken(queue, stack) for _ in range(5)] == ["much-0", "little-0", "much-1", "much-2", None]


async def test_what_hangs_leaves_room_for_others() -> None:
    queue: FairQueue[str] = FairQueue(share=2)
    for number in range(5):
        queue.put("stuck", f"stuck-{number}")
    async with AsyncExitStack() as stack:
        assert [await taken(queue, stack) for _ in range(3)] == ["stuck-0", "stuck-1", None]
        waiting = asyncio.create_task(taken(queue, stack))
        await asyncio.sleep(0)
        queue.put("well", "well-0")
        assert await waiting == "well-0"
    async with AsyncExitStack() as stack:
        assert await taken(queue, stack) == "stuck-2"


async def test_of_one_namespace_only_so_many_wait() -> None:
    queue: FairQueue[str] = FairQueue(share=1, most=2)
    assert [queue.put("much", str(number)) for number in range(3)] == [True, True, False]
    assert queue.put("little", "0")


async def test_a_taker_that_leaves_passes_its_turn_on() -> None:
    queue: FairQueue[str] = FairQueue(share=1)
    async with AsyncExitStack() as stack:
        first = asyncio.create_task(stack.enter_async_context(queue.take()))
        second = asyncio.create_task(stack.enter_async_context(queue.take()))
        await asyncio.sleep(0)
        queue.put("a", "a-0")
        first.cancel()
        assert await second == "a-0"
