"""Blocks that do not end: they are given up, and say where they stood.

A limit that only cancels is none. A cancellation may be lost on the way (redis-py, before Python 3.12), and a thread cannot be
cancelled at all: waiting for either would go on for ever, and nobody would learn where.
"""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextvars import copy_context
from types import FrameType
from typing import Any

LETS_GO_WITHIN = 5.0


class Stuck(AssertionError):
    """It has not ended in time; the message says where it stood."""


async def on_the_loop(work: Coroutine[Any, Any, Any], limit: float) -> Any:
    """What it gives. Raises Stuck after `limit` seconds."""
    task = asyncio.create_task(work)
    if not (await asyncio.wait({task}, timeout=limit))[0]:
        where = _lines(_awaited(work))
        await _end(task)
        raise Stuck(f"not done within {limit:g} s; it stood at\n{where}")
    return task.result()


async def in_a_thread(work: Callable[[], Any], limit: float) -> Any:
    """The same for what blocks. The thread is left behind: unlike one of the loop's own it keeps nobody from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(setter: Callable[[Any], None], value: Any) -> None:
        loop.call_soon_threadsafe(lambda: done.done() or setter(value))

    def run() -> None:
        try:
            value = context.run(work)
        except BaseException as error:
            tell(done.set_exception, error)
        else:
            tell(done.set_result, value)

    context = copy_context()
    thread = threading.Thread(target=run, daemon=True, name="block of a page")
    thread.start()
    if not (await asyncio.wait({done}, timeout=limit))[0]:
        frame = sys._current_frames().get(thread.ident or 0)
        raise Stuck(f"not done within {limit:g} s; it stood at\n{_lines(f for f, _ in traceback.walk_stack(frame))}")
    return done.result()


async def _end(task: "asyncio.Task[Any]") -> None:
    """Cancel it until it gives in."""
    deadline = asyncio.get_running_loop().time() + LETS_GO_WITHIN
    while not task.done() and asyncio.get_running_loop().time() < deadline:
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


def _awaited(work: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that waits, outermost first."""
    while work is not None:
        frame = next((getattr(work, name) for name in ("cr_frame", "gi_frame", "ag_frame") if hasattr(work, name)), None)
        if frame is not None:
            yield frame
        work = next((getattr(work, name) for name in ("cr_await", "gi_yieldfrom", "ag_await") if hasattr(work, name)), None)


def _lines(frames: Any) -> str:
    return "".join(traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames).format())
