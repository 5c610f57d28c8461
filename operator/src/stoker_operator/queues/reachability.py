"""Which Redis servers answer. One that did not answer is asked by the autoscaler's reads alone, and these take turns.

Every call to a Redis that hangs takes its whole timeout: a pass of the reconciler, or a pod's reclaim, must not spend that again
and again to learn what the last read has found.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import NamedTuple

from stoker.errors import RedisUnavailable

PROBES = 128
"""Reads at a time of Redis servers that have not answered yet, or did not answer last."""
STANDS = 5.0
"""Seconds for which a failure stands for what another call would find."""


class _Failure(NamedTuple):
    at: float
    cause: str


class Reachability:
    """Belongs to one event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._answering: set[str] = set()
        self._failed: dict[str, _Failure] = {}
        self._turns = asyncio.Semaphore(PROBES)

    def answered(self, url: str) -> None:
        """A call to this Redis has ended, if only with an error of Redis."""
        self._answering.add(url)
        self._failed.pop(url, None)

    def failed(self, url: str, error: Exception) -> None:
        """A call to this Redis found no server, or no answer in time."""
        self._answering.discard(url)
        self._failed[url] = _Failure(self._monotonic(), str(error))

    def check(self, url: str) -> None:
        """Raises RedisUnavailable, as the last call did, if that was a moment ago."""
        failure = self._failed.get(url)
        if failure is not None and self._monotonic() - failure.at < STANDS:
            raise RedisUnavailable(failure.cause)

    @contextlib.asynccontextmanager
    async def turn(self, url: str, *, waits: bool = True) -> AsyncIterator[None]:
        """For a read: at once where the last call was answered, or it never `waits`; else as one of a few."""
        if url in self._answering or not waits:
            yield
            return
        async with self._turns:
            yield

    def keep_only(self, urls: Collection[str]) -> None:
        """Forget all others, but what failed a moment ago."""
        now = self._monotonic()
        self._answering.intersection_update(urls)
        self._failed = {url: each for url, each in self._failed.items() if url in urls or now - each.at < STANDS}
