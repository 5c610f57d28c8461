"""The one way in which tests wait: look again and again until a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

LOOK_EVERY = 0.01
PATIENCE = 60.0
"""Seconds after which nothing comes any more. It bounds a hang and promises nothing: on a machine that others use as well a
process may take a quarter of a minute to start. Who tests how soon something comes says so, by `within`."""


async def until(condition: Callable[[], Any | Awaitable[Any]], within: float = PATIENCE) -> Any:
    """The first true value of `condition`. Fails with its source when there is none in time."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {within:g} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(LOOK_EVERY)
