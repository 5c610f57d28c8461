"""The time limits of one run.

On the event loop an `asyncio.timeout` for the hot path, at a fraction of its cost, that repeats a lost cancellation; on the main
thread of a child process a soft timeout by SIGALRM.
"""

import asyncio
import signal
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple, TypeVar

from stoker.errors import SoftTimeout

ASK_AGAIN = 5.0
MOST_LINES = 64
"""So many different limits, and those that nobody waits for are forgotten."""


class Limits(NamedTuple):
    """Seconds that a run may take: until it is asked to end, and until it is ended."""

    soft: float | None
    hard: float

    @property
    def told(self) -> float:
        """What the task itself reckons with."""
        return self.hard if self.soft is None else min(self.soft, self.hard)


class Deadline:
    """Cancels the current task of the event loop when its time is over, and turns that into TimeoutError.

    A cancellation that the task caught, or that was lost on its way, is asked for again. Made by `Deadlines.after`.
    """

    __slots__ = ("_asked", "_cancelling", "_line", "_task", "_timer")

    def __init__(self, line: "_Line | None") -> None:
        self._line = line
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def expired(self) -> bool:
        """Whether the time was over before the run."""
        return self._asked > 0

    def __enter__(self) -> None:
        if self._line is not None:
            # With its loop, which asyncio would else ask the kernel for: before Python 3.12 it looks at the process' number.
            task = asyncio.current_task(self._line.loop)
            assert task is not None  # noqa: S101 (a coroutine runs in a task)
            self._task = task
            self._cancelling = task.cancelling()
            self._line.join(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._line is not None:
            self._line.leave(self)
        if not self._asked:
            return
        if self._timer:
            self._timer.cancel()
        for _ in range(self._asked):
            left = self._task.uncancel()
        if kind is asyncio.CancelledError and left <= self._cancelling:
            raise TimeoutError from error

    def expire(self) -> None:
        """The time is over."""
        self._asked += 1
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(ASK_AGAIN, self.expire)


class Deadlines:
    """The deadlines of the runs of one event loop.

    Of runs with the same limit those that began first end first: a line for each limit, and one timer for each line. A timer for
    each run would cost more than the rest of its deadline.
    """

    def __init__(self) -> None:
        self._lines: dict[float, _Line] = {}

    def after(self, limit: float | None) -> Deadline:
        """A deadline so many seconds after it is entered; None is never."""
        if limit is None:
            return Deadline(None)
        if (line := self._lines.get(limit)) is None:
            if len(self._lines) >= MOST_LINES:
                self._forget_empty_lines()
            line = self._lines[limit] = _Line(limit)
        return Deadline(line)

    def _forget_empty_lines(self) -> None:
        for line in [each for each in self._lines.values() if each.empty]:
            line.close()
            del self._lines[line.limit]


class _Line:
    """Those who have the same limit, in the order in which they end."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.loop = asyncio.get_running_loop()
        self._ends: dict[Deadline, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def empty(self) -> bool:
        return not self._ends

    def join(self, deadline: Deadline) -> None:
        self._ends[deadline] = ends = self.loop.time() + self.limit
        if self._timer is None:
            self._timer = self.loop.call_at(ends, self._look)

    def leave(self, deadline: Deadline) -> None:
        self._ends.pop(deadline, None)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _look(self) -> None:
        """The timer was set for one that has mostly left meanwhile: it goes on with the first that is still there."""
        self._timer, now = None, self.loop.time()
        while self._ends:
            deadline, ends = next(iter(self._ends.items()))
            if ends > now:
                self._timer = self.loop.call_at(ends, self._look)
                return
            del self._ends[deadline]
            deadline.expire()


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


T = TypeVar("T")


def interrupted(function: Callable[[], T], after: float) -> T:
    """Call it, and raise SoftTimeout in it once after so many seconds; code that is not Python comes back to Python first."""

    def interrupt(*_: Any) -> None:
        raise SoftTimeout(f"did not end within {after:g} s")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        return function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
