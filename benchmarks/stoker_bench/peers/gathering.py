"""Many single enqueues at once, in the two ways that suit a client."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

ABREAST = 32
"""Where each call takes a connection of its own, more at a time are slower: peers' own benchmarks use 20 to 32."""


class Single(Protocol):
    """What can enqueue one task."""

    async def one(self, task: str, number: int, text: str) -> None:
        """Enqueue one task."""


async def together(producer: Single, task: str, numbers: Sequence[int], text: str) -> None:
    """All at once: for clients that share a connection, or that block."""
    await asyncio.gather(*(producer.one(task, number, text) for number in numbers))


async def abreast(producer: Single, task: str, numbers: Sequence[int], text: str) -> None:
    """So many at a time: for clients that take a connection per call."""

    async def stripe(first: int) -> None:
        for number in numbers[first::ABREAST]:
            await producer.one(task, number, text)

    await asyncio.gather(*(stripe(first) for first in range(ABREAST)))
