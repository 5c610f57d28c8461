"""How a run becomes a task of the event loop."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

Run = Coroutine[Any, Any, None]
Begin = Callable[[Run, str], asyncio.Task[None]]
"""Starts a run under a name, which spares asyncio the making of one."""


def later(loop: asyncio.AbstractEventLoop) -> Begin:
    """It takes its first step when the loop comes round."""
    return lambda run, name: asyncio.Task(run, loop=loop, name=name)


def eagerly(loop: asyncio.AbstractEventLoop) -> Begin:
    """It takes its first step at once, and one that never waits is done when this returns: since Python 3.12, else `later`."""
    if sys.version_info < (3, 12):
        return later(loop)
    return lambda run, name: asyncio.Task(run, loop=loop, name=name, eager_start=True)
