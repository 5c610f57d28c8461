"""The names of TaskQueues to reconcile, deduplicated: between the watches and the reconciler.

As client-go's workqueue: a name added twice is processed once; a name added while it is processed is processed again
afterwards, never twice at the same time. A failed one comes back after a pause that doubles. Namespaces take turns.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from stoker_operator.fair_queue import FairQueue
from stoker_operator.state.ref import Ref

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
SHARE = 4
"""Names of one namespace that are processed at a time: passes that wait for its Redis leave room for others."""


class WorkQueue:
    """Belongs to one event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._moved_at = monotonic()  # a name was taken, or came into an empty queue
        self._taken_at: dict[Ref, float] = {}
        self._ready: FairQueue[Ref] = FairQueue(SHARE)
        self._queued: set[Ref] = set()
        self._processing: set[Ref] = set()
        self._again: set[Ref] = set()
        self._failures: dict[Ref, int] = {}
        self._timers: dict[Ref, asyncio.TimerHandle] = {}

    def add(self, ref: Ref) -> None:
        """Process it soon."""
        if ref in self._processing:
            self._again.add(ref)
        elif ref not in self._queued:
            if not self._queued:
                self._moved_at = self._monotonic()
            self._queued.add(ref)
            self._ready.put(ref.namespace, ref)

    def add_after(self, ref: Ref, seconds: float) -> None:
        """Process it after a pause, unless something else causes that before."""
        self._cancel_timer(ref)
        self._timers[ref] = asyncio.get_running_loop().call_later(seconds, self.add, ref)

    def failed(self, ref: Ref, at_least: float = 0.0) -> float:
        """Process it again after a pause that doubles with every failure in a row. Returns the pause in seconds."""
        failures = self._failures[ref] = self._failures.get(ref, 0) + 1
        pause = max(at_least, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 10)))
        self.add_after(ref, pause)
        return float(pause)

    def succeeded(self, ref: Ref) -> None:
        """Reset its pause."""
        self._failures.pop(ref, None)

    def waited(self) -> float:
        """Seconds for which no name has been taken although some wait."""
        return self._monotonic() - self._moved_at if self._queued else 0.0

    def longest(self) -> float:
        """Seconds for which the name that was taken first has been processed."""
        return self._monotonic() - min(self._taken_at.values()) if self._taken_at else 0.0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Ref]:
        """The next name. It counts as being processed until the block ends."""
        async with self._ready.take() as ref:
            self._queued.discard(ref)
            self._processing.add(ref)
            self._moved_at = self._taken_at[ref] = self._monotonic()
            self._cancel_timer(ref)
            try:
                yield ref
            finally:
                self._processing.discard(ref)
                del self._taken_at[ref]
                if ref in self._again:
                    self._again.discard(ref)
                    self.add(ref)

    def _cancel_timer(self, ref: Ref) -> None:
        if timer := self._timers.pop(ref, None):
            timer.cancel()
