"""Calls from code without an event loop (Flask, Django, scripts): a background thread with a loop, one per process.

All threads share it, so their enqueues share its connection and its round trips. A forked child starts its own. Under gevent, whose
threads are greenlets, all of this happens in one thread. Once the process is ending, each call gets its own loop and connection.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from stoker.errors import Invalid

T = TypeVar("T")
Closing = Callable[[], Awaitable[None]]
CLOSES_WITHIN = 10.0
"""Seconds that the end of the process waits for what is in flight."""


class Portal:
    """The loop and its thread. They end with the process, which waits for what is in flight."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closings: dict[int, Closing] = {}
        self._under_way: set[asyncio.Task[Any]] = set()
        self._open = True
        self._entering = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stoker-portal", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending
            self._loop.close()
            raise

    def submit(self, work: Callable[[], Awaitable[T]], closing: Closing) -> Future[T] | None:
        """Await `work()` on the loop, in the caller's context; None once closed. `closing` is awaited when the process ends."""
        with self._entering:
            return asyncio.run_coroutine_threadsafe(self._run(work, closing), self._loop) if self._open else None

    def lends_its_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this running loop is its own and not the caller's: gevent's greenlets share a thread, and so its running loop."""
        return loop is self._loop and threading.get_ident() != self._thread.ident

    def close(self) -> None:
        """Let what is in flight end, then close everything."""
        with self._entering:
            self._open = False
        try:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(CLOSES_WITHIN)
        except TimeoutError:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _run(self, work: Callable[[], Awaitable[T]], closing: Closing) -> T:
        self._closings.setdefault(id(getattr(closing, "__self__", closing)), closing)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        self._under_way.add(task)
        try:
            return await work()
        finally:
            self._under_way.discard(task)

    async def _end(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way)
        for closing in self._closings.values():
            await closing()


_making = threading.Lock()
_portal: Portal | None = None


def from_sync(instead: str, work: Callable[[], Coroutine[Any, Any, T]], closing: Closing) -> T:
    """The result of `work()`. Raises Invalid, which names what to use `instead`, on a thread that runs an event loop."""
    if _runs_a_loop():
        raise Invalid(f"this thread runs an event loop, which waiting here would block: use {instead}")
    portal = _this_process()
    future = portal.submit(work, closing) if portal else None
    if future is None:
        return asyncio.run(_alone(work, closing))
    try:
        return future.result()
    except BaseException:
        future.cancel()  # the caller was interrupted
        raise


def _runs_a_loop() -> bool:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    return _portal is None or not _portal.lends_its_loop(loop)


def _this_process() -> Portal | None:
    """None where the process is ending and starts no more threads."""
    global _portal
    with _making:
        if _portal is None:
            try:
                _portal = Portal()
            except RuntimeError:
                return None
        return _portal


async def _alone(work: Callable[[], Coroutine[Any, Any, T]], closing: Closing) -> T:
    """`work()` where there is no portal any more."""
    try:
        return await work()
    finally:
        await closing()


@atexit.register  # now, not with the first call: exit handlers that were registered later run before this one
def _close() -> None:
    if _portal is not None:
        _portal.close()


def _forget() -> None:
    """Drop the parent's portal: a forked child has its objects, but not its threads."""
    global _portal, _making
    _portal, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
