"""What waits to be processed, in turn by namespace: one with much of it delays no other.

First in, first out within a namespace; of several namespaces the one that has waited longest.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Belongs to one event loop. At most `share` of a namespace are processed at a time, and `most` of it wait."""

    def __init__(self, share: int, most: int | None = None) -> None:
        self._share = share
        self._most = most
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._processing: Counter[str] = Counter()
        self._takers: deque[asyncio.Future[None]] = deque()

    def put(self, namespace: str, item: T) -> bool:
        """Add an item. Returns False, and does not, if too many of its namespace wait."""
        items = self._waiting.setdefault(namespace, deque())
        if self._most is not None and len(items) >= self._most:
            return False
        items.append(item)
        self._wake()
        return True

    @asynccontextmanager
    async def take(self) -> AsyncIterator[T]:
        """The next item, once there is one that may be processed. It counts as being processed until the block ends."""
        while (namespace := self._next()) is None:
            taker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker.done() and not taker.cancelled():
                    self._wake()  # it was this taker's turn: the next one takes it
                raise
        items = self._waiting[namespace]
        item = items.popleft()
        if items:
            self._waiting.move_to_end(namespace)
        else:
            del self._waiting[namespace]
        self._processing[namespace] += 1
        try:
            yield item
        finally:
            self._processing[namespace] -= 1
            if not self._processing[namespace]:
                del self._processing[namespace]
            self._wake()

    def _next(self) -> str | None:
        return next((each for each in self._waiting if self._processing[each] < self._share), None)

    def _wake(self) -> None:
        while self._takers:
            if not (taker := self._takers.popleft()).done():
                taker.set_result(None)
                return
