"""The time limits of one run: `asyncio.timeout` for the hot path, at a third of its cost, and more insistent; and a soft one."""

import asyncio
import types
from collections.abc import Awaitable, Generator
from typing import Any, NamedTuple

from stoker.errors import SoftTimeout

ASK_AGAIN = 5.0


class Limits(NamedTuple):
    """Seconds that a run may take: until it is asked to end, and until it is ended."""

    soft: float | None
    hard: float

    @property
    def told(self) -> float:
        """What the task itself reckons with."""
        return self.hard if self.soft is None else min(self.soft, self.hard)


class Deadline:
    """Cancels the current task of the event loop after `limit` seconds (None = never) and turns that into TimeoutError.

    A cancellation that the task caught, or that was lost on its way, is asked for again.
    """

    __slots__ = ("_asked", "_cancelling", "_limit", "_task", "_timer")

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def expired(self) -> bool:
        """Whether the time was over before the run."""
        return self._asked > 0

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if self._limit is not None and task is not None:
            self._task = task
            self._cancelling = task.cancelling()
            self._timer = task.get_loop().call_later(self._limit, self._expire)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        if self._asked:
            for _ in range(self._asked):
                left = self._task.uncancel()
            if kind is asyncio.CancelledError and left <= self._cancelling:
                raise TimeoutError from error

    def _expire(self) -> None:
        self._asked += 1
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(ASK_AGAIN, self._expire)


async def softly(run: Awaitable[Any], limit: float) -> Any:
    """Await the run, and raise SoftTimeout in it once after `limit` seconds, wherever it waits by then."""
    return await _asked_to_end(run, _Request(limit))


class _Request:
    """Cancels the current task, so that whatever it waits for lets it go, and takes that cancellation back."""

    def __init__(self, limit: float) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        self._task = task
        self._limit = limit
        self._before = task.cancelling()
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = task.get_loop().call_later(limit, self._ask)

    def end(self) -> None:
        """Ask no more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._asked:
            self._asked -= 1
            self._task.uncancel()

    def translated(self, error: BaseException) -> BaseException:
        """What the run is to see in the place of this: our own cancellation is a SoftTimeout, that of anybody else is none."""
        mine = isinstance(error, asyncio.CancelledError) and 0 < self._asked == self._task.cancelling() - self._before
        if not mine:
            return error
        self.end()
        return SoftTimeout(f"did not end within {self._limit:g} s")

    def _ask(self) -> None:
        self._asked += 1
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(ASK_AGAIN, self._ask)


@types.coroutine
def _asked_to_end(run: Awaitable[Any], request: _Request) -> Generator[Any, Any, Any]:
    """`yield from`, but for what `request` translates on its way into the run."""
    steps = run.__await__()
    go_on, argument = steps.send, None
    try:
        while True:
            try:
                waits_for = go_on(argument)
            except StopIteration as end:
                return end.value
            try:
                go_on, argument = steps.send, (yield waits_for)
            except BaseException as error:
                go_on, argument = steps.throw, request.translated(error)
    finally:
        request.end()
