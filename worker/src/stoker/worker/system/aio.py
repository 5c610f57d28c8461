"""Additions to asyncio and os.fork: eager tasks, cancellation that is repeated until it works, a loop that tasks cannot end,
detection of a fork, signal handlers that forks do not inherit.
"""

import asyncio
import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

SHOWN_FRAMES = 5
SHOWN_LEFT = 10
LEAVE_TIMEOUT = 1.0
"""Seconds that asyncio tasks which tasks have left behind may take to end when the worker leaves."""
T = TypeVar("T")
_log = logging.getLogger("stoker.worker")
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


async def cancel_all(*tasks: asyncio.Task[Any], within: float = math.inf) -> None:
    """Cancel these tasks until all have ended, or for `within` seconds; their errors are dropped.

    A cancellation may be lost in a library: repeat it.
    """
    pending, give_up = set(tasks), time.monotonic() + within
    while pending and time.monotonic() < give_up:
        for each in pending:
            each.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
    await asyncio.gather(*(task for task in tasks if task not in pending), return_exceptions=True)


def hidden(task: asyncio.Task[T]) -> asyncio.Task[T]:
    """The same task, which `asyncio.all_tasks()` no longer lists: a run that cancels all tasks does not cancel the worker."""
    asyncio.tasks._unregister_task(task)  # documented under "Extending asyncio"
    return task


_REFUSED = ("stop", "shutdown_default_executor")
"""Methods of the event loop that would end the worker, or cut it off from name resolution."""


def run_to_end(runner: asyncio.Runner, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the runner's loop. Nothing that other asyncio tasks do ends it early.

    asyncio passes SystemExit and KeyboardInterrupt of any task through the loop to its caller. Here they are logged, and the loop
    runs on. In place of `loop.stop()`, and the like, the caller gets a RuntimeError.
    """
    loop = runner.get_loop()
    main = hidden(loop.create_task(_with_refusals(loop, work)))
    try:
        return _run_until_done(loop, main)
    finally:
        _run_until_done(loop, hidden(loop.create_task(_leave_behind(loop))))


def _run_until_done(loop: asyncio.AbstractEventLoop, main: asyncio.Task[T]) -> T:
    while True:
        try:
            return loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as error:
            if main.done():
                raise
            where = [f"{line.filename}:{line.lineno} {line.name}" for line in traceback.extract_tb(error.__traceback__)]
            extra = {"error": type(error).__name__, "at": where[-SHOWN_FRAMES:]}
            _log.error("an asyncio task that a task has started wants the process to exit: the worker goes on", extra=extra)


left_behind: list[asyncio.Task[Any]] = []
"""Asyncio tasks that did not end. Python closes their coroutines when it exits, which may not end either."""


async def _leave_behind(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what tasks have left on the loop. The runner would wait without limit for those that do not end."""
    await cancel_all(*asyncio.all_tasks(loop), within=LEAVE_TIMEOUT)
    if left := asyncio.all_tasks(loop):
        _log.warning("leaving without asyncio tasks that do not end", extra={"left": sorted(map(repr, left))[:SHOWN_LEFT]})
    left_behind.extend(map(hidden, left))


async def _with_refusals(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    def refusal(name: str) -> Callable[..., Any]:
        def refuse(*_: Any) -> NoReturn:
            raise RuntimeError(f"loop.{name}() is not for tasks: all tasks of this worker share its event loop")

        return refuse

    for name in _REFUSED:
        setattr(loop, name, refusal(name))
    try:
        return await work
    finally:
        for name in _REFUSED:
            delattr(loop, name)


_generation = 0
_here_alone: dict[int, tuple[Any, Any]] = {}
"""Signal -> the handler of this process, and the handler of its forked copies."""
_masks = threading.local()


def generation() -> int:
    """A number that changes in a forked copy of this process."""
    return _generation


def handle_here_alone(number: int, handler: Callable[..., Any], in_forks: Any) -> None:
    """Set the handler of a signal for this process. Forked copies, such as those of `multiprocessing`, get `in_forks` instead:
    with our handler, they would ignore the signal that is to end them.
    """
    signal.signal(number, handler)
    _here_alone[number] = handler, in_forks


def _before_fork() -> None:
    if _here_alone:
        # A signal that comes before its handler is reset would go into the parent's wakeup descriptor: the parent would drain.
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _here_alone)


def _after_fork() -> None:
    if _here_alone:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_fork() -> None:
    global _generation
    _generation += 1
    if not _here_alone:
        return
    signal.set_wakeup_fd(-1)
    for number, (handler, in_fork) in _here_alone.items():
        if signal.getsignal(number) is handler:  # not one that a task has set
            signal.signal(number, in_fork)
    _after_fork()
    _here_alone.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_fork)
