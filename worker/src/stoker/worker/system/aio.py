"""What asyncio and os.fork lack: eager tasks, cancellation that cannot be lost, the knowledge of having been forked."""

import asyncio
import os
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


ASK_AGAIN = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these until all have ended, however they end."""
    pending = set(tasks)
    while pending:
        for each in pending:
            each.cancel()
        _, pending = await asyncio.wait(pending, timeout=ASK_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


_generation = 0


def generation() -> int:
    """The same number for as long as this is the same process."""
    return _generation


def _born() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_born)
