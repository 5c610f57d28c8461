"""How a run becomes a task of the event loop."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any


def later(run: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """It takes its first step when the loop comes round."""
    # A name spares asyncio the making of one.
    return asyncio.Task(run, loop=asyncio.get_running_loop(), name=name)


def eagerly(run: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """It takes its first step at once, and one that never waits is done when this returns: since Python 3.12, else `later`."""
    if sys.version_info < (3, 12):
        return later(run, name)
    return asyncio.Task(run, loop=asyncio.get_running_loop(), name=name, eager_start=True)
