"""Batching: concurrent enqueues to one queue share their round trips.

The first one goes at once. Those that come while UNDER_WAY_AT_ONCE are in flight wait, and go together in the next. So one
awaited enqueue never waits for others, and a thousand concurrent ones cost a few round trips.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from stoker.errors import Invalid, StokerError
from stoker.queue.records import Answer
from stoker.redis.spin_wait import SpinWait
from stoker.rules.admission import Admission

UNDER_WAY_AT_ONCE = 2
GATHERED_AT_ONCE = 500


class _Waiting(NamedTuple):
    admissions: Sequence[Admission]
    answers: "asyncio.Future[list[Answer]]"


class Batching:
    """Shares the round trips of `enqueue`, a broker's. An error of Redis reaches every caller that shared the trip.

    Belongs to one event loop.
    """

    def __init__(self, enqueue: Callable[[Sequence[Admission]], Awaitable[list[Answer]]]) -> None:
        self._enqueue = enqueue
        self._loop = asyncio.get_running_loop()
        self._spin_wait = SpinWait()
        self._under_way = 0
        self._waiting: list[_Waiting] = []
        self._trips: set[asyncio.Task[None]] = set()

    def enqueue(self, admissions: Sequence[Admission]) -> Awaitable[list[Answer]]:
        """The answers to these, in order. To be awaited at once."""
        if self._under_way < UNDER_WAY_AT_ONCE and not self._waiting:
            return self._go(admissions)
        # A future, not a coroutine: for a thousand waiting callers that is a thousand fewer objects to collect.
        waiting = _Waiting(admissions, self._loop.create_future())
        self._waiting.append(waiting)
        return waiting.answers

    async def _go(self, admissions: Sequence[Admission]) -> list[Answer]:
        alone = not self._under_way and len(admissions) == 1
        self._under_way += 1
        try:
            if alone:
                with self._spin_wait:
                    return await self._enqueue(admissions)
            return await self._enqueue(admissions)
        finally:
            self._under_way -= 1
            if self._waiting:
                self._send_next()

    def _send_next(self) -> None:
        if self._waiting and self._under_way < UNDER_WAY_AT_ONCE:
            self._under_way += 1
            trip = self._loop.create_task(self._share(self._next()))
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)

    def _next(self) -> list[_Waiting]:
        """Those who share the next trip, in order, without those cancelled meanwhile."""
        count = size = 0
        for waiting in self._waiting:
            if count and size + len(waiting.admissions) > GATHERED_AT_ONCE:
                break
            count, size = count + 1, size + len(waiting.admissions)
        gone, self._waiting = self._waiting[:count], self._waiting[count:]
        return [waiting for waiting in gone if not waiting.answers.done()]

    async def _share(self, party: list[_Waiting]) -> None:
        try:
            answers = await self._enqueue([admission for waiting in party for admission in waiting.admissions])
        except Exception as error:
            # What Redis says concerns all of them. Anything else is the fault of a value in one: each goes by itself.
            if len(party) == 1 or (isinstance(error, StokerError) and not isinstance(error, Invalid)):
                _fail(party, error)
            else:
                await self._one_by_one(party)
        except BaseException as error:
            _fail(party, error)
            raise
        else:
            at = 0
            for waiting in party:
                until = at + len(waiting.admissions)
                if not waiting.answers.done():
                    waiting.answers.set_result(answers[at:until])
                at = until
        finally:
            self._under_way -= 1
            self._send_next()

    async def _one_by_one(self, party: list[_Waiting]) -> None:
        for waiting in party:
            try:
                answers = await self._enqueue(waiting.admissions)
            except Exception as error:
                _fail([waiting], error)
            else:
                if not waiting.answers.done():
                    waiting.answers.set_result(answers)


def _fail(party: list[_Waiting], error: BaseException) -> None:
    for waiting in party:
        if not waiting.answers.done():
            waiting.answers.set_exception(error)
