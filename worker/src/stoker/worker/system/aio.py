"""Additions to asyncio and os.fork: eager tasks, cancellation that is repeated until it works, detection of a fork."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

Run = Coroutine[Any, Any, None]
Begin = Callable[[Run, str], asyncio.Task[None]]
"""Starts a run under a name: asyncio would else make one up, which costs time."""


def lazy_start(loop: asyncio.AbstractEventLoop) -> Begin:
    """It takes its first step in the next iteration of the loop."""
    return lambda run, name: asyncio.Task(run, loop=loop, name=name)


def eager_start(loop: asyncio.AbstractEventLoop) -> Begin:
    """It takes its first step at once, and is done on return if it never waits. Needs Python 3.12; before, it is `lazy_start`."""
    if sys.version_info < (3, 12):
        return lazy_start(loop)
    return lambda run, name: asyncio.Task(run, loop=loop, name=name, eager_start=True)


CANCEL_AGAIN = 0.5


async def cancel_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these tasks until all have ended; their errors are dropped. A cancellation may be lost in a library: repeat it."""
    pending = set(tasks)
    while pending:
        for each in pending:
            each.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


_generation = 0


def generation() -> int:
    """A number that changes in a forked copy of this process."""
    return _generation


def _forked() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
