"""Deduplicates a SCAN, in steps of a size for one script."""

from collections.abc import AsyncIterator, Callable, Hashable
from typing import TypeVar

T = TypeVar("T")
STEP = 100


async def in_steps(found: AsyncIterator[T], key: Callable[[T], Hashable]) -> AsyncIterator[list[T]]:
    """Every item once, by its key, in order, in lists of STEP."""
    seen: set[Hashable] = set()
    step: list[T] = []
    async for each in found:
        if key(each) in seen:
            continue
        seen.add(key(each))
        step.append(each)
        if len(step) == STEP:
            yield step
            step = []
    if step:
        yield step
