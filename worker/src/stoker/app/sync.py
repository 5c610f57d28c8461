"""Calls from code without an event loop (Flask, Django, scripts): a background thread with a loop, one per process.

All threads share it, so their enqueues share its connection and its round trips. A forked child starts its own.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
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
        threading.Thread(target=self._loop.run_forever, name="stoker-portal", daemon=True).start()
        atexit.register(self.close)

    def call(self, work: Callable[[], Awaitable[T]], closing: Closing) -> T:
        """The result of `work()`, awaited on the loop in the caller's context. `closing` is awaited when the process ends."""
        future = asyncio.run_coroutine_threadsafe(self._run(work, closing), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the caller was interrupted
            raise

    def close(self) -> None:
        """Let what is in flight end, then close everything."""
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
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _this_process().call(work, closing)
    raise Invalid(f"this thread runs an event loop, which waiting here would block: use {instead}")


def _this_process() -> Portal:
    global _portal
    with _making:
        if _portal is None:
            _portal = Portal()
        return _portal


def _forget() -> None:
    """Drop the parent's portal: a forked child has its objects, but not its threads."""
    global _portal, _making
    if _portal is not None:
        atexit.unregister(_portal.close)
    _portal, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
