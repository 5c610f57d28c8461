"""Garbage collector of a worker process: few collections while short tasks run, and one whenever memory has grown.

Python counts objects, not bytes: with its own threshold it traverses all running tasks every few round trips, a fifth of the CPU of
short tasks, and frees nothing. With a high one alone it keeps gigabytes of a few large objects in reference cycles.

Looking, collecting and trimming hold the GIL: what other threads leave behind in between would count as in use and
raise the limit.
"""

import asyncio
import ctypes
import gc
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from stoker.worker.system.memory import resident

COLLECT_AFTER = 20_000
"""Threshold of the first generation; Python's default is 700."""
SHORT_RUN = 0.0005
"""Seconds of a run that is too short to have left much memory: after it nothing is looked at."""
LOOK_INTERVAL = 0.0005
"""Seconds between two looks at the resident memory, which cost 2 microseconds each."""
GROWTH = 32 << 20
"""Bytes by which memory may grow before a collection; a quarter, where that is more."""
IDLE_INTERVAL = 1.0
"""Seconds without a run after which what earlier ones have left is collected."""
ARENAS = 2
"""Heaps of the GNU C library. By default each thread has its own, and each keeps freed memory at its end, which no trim returns."""
_M_ARENA_MAX = -8
_library = ctypes.PyDLL(None)
_default = gc.get_threshold()  # before the application is imported, which may set its own


class GarbageCollector:
    """Off until `start`. Where the application has disabled collection, nothing is collected; its own threshold is left alone."""

    def __init__(self) -> None:
        self._limit: float | None = None
        self._looked = 0.0

    def start(self, growth: int = GROWTH) -> None:
        """Freeze what is loaded, and collect from now on whenever memory has grown by `growth` bytes."""
        _share_arenas()
        gc.freeze()
        if gc.get_threshold() == _default:
            gc.set_threshold(COLLECT_AFTER)
        self._growth = growth
        self._set_limit()

    def look(self) -> None:
        """Collect if memory has grown. To be called after each run that was not short."""
        if self._limit is None or (now := time.monotonic()) - self._looked < LOOK_INTERVAL:
            return
        self._looked = now
        if resident() > self._limit:
            self.collect()

    def collect(self) -> None:
        """Collect now."""
        if self._limit is not None and gc.isenabled():
            gc.collect()
            _trim()
            self._set_limit()

    async def collect_when_idle(self, runs: Callable[[], int], busy: Callable[[], int]) -> NoReturn:
        """Collect once after the last of several runs. `runs`: how many have ended; `busy`: how many are under way."""
        seen = collected = runs()
        while True:
            await asyncio.sleep(IDLE_INTERVAL)
            ended = runs()
            if ended == seen != collected and not busy():
                self.collect()
                collected = ended
            seen = ended

    def _set_limit(self) -> None:
        memory = resident()
        self._limit = memory + max(self._growth, memory / 4)


def _trim() -> None:
    """Give freed memory back to the system."""
    with suppress(AttributeError):  # another C library
        _library.malloc_trim(0)


def _share_arenas() -> None:
    """For threads that start from now on, unless the environment says how many heaps there may be."""
    if "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(AttributeError):
        _library.mallopt(_M_ARENA_MAX, ARENAS)


collector = GarbageCollector()
"""Of this process."""
