"""Concurrent enqueues to one queue share their round trips.

The first one goes at once; those that come while it is under way go together when the next may leave. So one awaited
enqueue waits for nobody, and a thousand at a time cost a few round trips instead of a thousand.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from stoker.errors import Conflict
from stoker.queue.records import Receipt
from stoker.redis.spin_wait import SpinWait
from stoker.rules.admission import Admission

Outcomes = list[Receipt | Conflict]
UNDER_WAY_AT_ONCE = 2
GATHERED_AT_ONCE = 500


class _Waiting(NamedTuple):
    entries: Sequence[Admission]
    outcomes: "asyncio.Future[Outcomes]"


class Batching:
    """Belongs to one event loop. `offer` is the real thing; what it raises reaches everyone who shared the trip."""

    def __init__(self, offer: Callable[[Sequence[Admission]], Awaitable[Outcomes]]) -> None:
        self._offer = offer
        self._loop = asyncio.get_running_loop()
        self._vigil = SpinWait()
        self._under_way = 0
        self._waiting: list[_Waiting] = []
        self._trips: set[asyncio.Task[None]] = set()

    def offer(self, entries: Sequence[Admission]) -> Awaitable[Outcomes]:
        """The outcomes of these entries, in order. To be awaited at once."""
        if not self._under_way and len(entries) == 1:
            return self._go_alone(entries)
        if self._under_way < UNDER_WAY_AT_ONCE and not self._waiting:
            return self._go(entries)
        # No coroutine: of a thousand who wait each would be one more object for the garbage collector to look at.
        waiting = _Waiting(entries, self._loop.create_future())
        self._waiting.append(waiting)
        return waiting.outcomes

    async def _go_alone(self, entries: Sequence[Admission]) -> Outcomes:
        with self._vigil:
            return await self._go(entries)

    async def _go(self, entries: Sequence[Admission]) -> Outcomes:
        self._under_way += 1
        try:
            return await self._offer(entries)
        finally:
            self._under_way -= 1
            self._send_next()

    def _send_next(self) -> None:
        if self._waiting and self._under_way < UNDER_WAY_AT_ONCE:
            self._under_way += 1
            trip = self._loop.create_task(self._share(self._next()))
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)

    def _next(self) -> list[_Waiting]:
        """Who goes along, in order; whoever was cancelled meanwhile does not."""
        count = size = 0
        for waiting in self._waiting:
            if count and size + len(waiting.entries) > GATHERED_AT_ONCE:
                break
            count, size = count + 1, size + len(waiting.entries)
        gone, self._waiting = self._waiting[:count], self._waiting[count:]
        return [waiting for waiting in gone if not waiting.outcomes.done()]

    async def _share(self, party: list[_Waiting]) -> None:
        try:
            outcomes = await self._offer([entry for waiting in party for entry in waiting.entries])
        except BaseException as error:
            for waiting in party:
                if not waiting.outcomes.done():
                    waiting.outcomes.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            at = 0
            for waiting in party:
                until = at + len(waiting.entries)
                if not waiting.outcomes.done():
                    waiting.outcomes.set_result(outcomes[at:until])
                at = until
        finally:
            self._under_way -= 1
            self._send_next()
