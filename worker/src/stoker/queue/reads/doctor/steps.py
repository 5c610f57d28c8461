"""A walk through what may come twice, as a SCAN gives it, in steps that one script may take."""

from collections.abc import AsyncIterator, Callable, Hashable
from typing import TypeVar

T = TypeVar("T")
STEP = 100


async def in_steps(found: AsyncIterator[T], key: Callable[[T], Hashable]) -> AsyncIterator[list[T]]:
    """Everything once, told apart by its key, STEP at a time and in order."""
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
