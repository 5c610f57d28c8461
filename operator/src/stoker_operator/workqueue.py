"""Which TaskQueues to look at: one deduplicating queue between the watches and the reconciler.

A name that is added twice is looked at once; a name that is added while it is being looked at is looked at
again afterwards, never by two at the same time. A failure comes back after a growing pause.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stoker_operator.resources import Ref

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class WorkQueue:
    """Belongs to one event loop. Whoever takes a name holds it until the block ends."""

    def __init__(self) -> None:
        self._line: asyncio.Queue[Ref] = asyncio.Queue()
        self._waiting: set[Ref] = set()
        self._held: set[Ref] = set()
        self._again: set[Ref] = set()
        self._failures: dict[Ref, int] = {}
        self._later: dict[Ref, asyncio.TimerHandle] = {}

    def add(self, ref: Ref) -> None:
        """Look at it soon."""
        if ref in self._held:
            self._again.add(ref)
        elif ref not in self._waiting:
            self._waiting.add(ref)
            self._line.put_nowait(ref)

    def add_later(self, ref: Ref, seconds: float) -> None:
        """Look at it after a pause, unless somebody looks before."""
        self._forget_later(ref)
        self._later[ref] = asyncio.get_running_loop().call_later(seconds, self.add, ref)

    def failed(self, ref: Ref) -> float:
        """Look at it again after a pause that doubles with every failure in a row. Returns the pause."""
        failures = self._failures[ref] = self._failures.get(ref, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 10))
        self.add_later(ref, pause)
        return float(pause)

    def succeeded(self, ref: Ref) -> None:
        """The next failure is the first again."""
        self._failures.pop(ref, None)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Ref]:
        """The next name, held for the length of the block."""
        ref = await self._line.get()
        self._waiting.discard(ref)
        self._held.add(ref)
        self._forget_later(ref)
        try:
            yield ref
        finally:
            self._held.discard(ref)
            if ref in self._again:
                self._again.discard(ref)
                self.add(ref)

    def _forget_later(self, ref: Ref) -> None:
        if timer := self._later.pop(ref, None):
            timer.cancel()
