"""Cancelling an asyncio task waits until it has ended, even if it swallows the cancellation."""

import asyncio

from stoker.worker.system.aio import cancel_all


async def test_a_lost_cancellation_is_sent_again() -> None:
    lost = 0

    async def loses_the_first() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    task = asyncio.create_task(loses_the_first())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await cancel_all(task)
    assert task.cancelled()
    assert lost == 2


async def test_a_task_that_failed_has_ended_too() -> None:
    async def fails() -> None:
        raise ValueError("no")

    await cancel_all(asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(3600)))


async def test_nothing_ends_at_once() -> None:
    await cancel_all()
