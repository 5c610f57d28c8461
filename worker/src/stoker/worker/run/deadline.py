"""Deadlines of runs: hard and soft timeouts.

On the event loop, an `asyncio.timeout` for the hot path at a fraction of its cost, which repeats a lost cancellation. On the main
thread of a child process, a soft timeout by SIGALRM.
"""

import asyncio
import logging
import signal
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple, TypeVar

from stoker.errors import SoftTimeout

CANCEL_AGAIN = 5.0
"""Seconds until a run that has not ended is cancelled again."""
MAX_LINES = 64
"""Different limits kept; beyond that, unused ones are dropped."""
_log = logging.getLogger("stoker.worker")


class Limits(NamedTuple):
    """Seconds that a run may take: until SoftTimeout is raised in it (None: never), and until it is cancelled."""

    soft: float | None
    hard: float

    @property
    def first(self) -> float:
        """The shorter one: what `Context.time_left` counts down from."""
        return self.hard if self.soft is None else min(self.soft, self.hard)


class Deadline:
    """Cancels the current asyncio task when its time is over, and turns that into TimeoutError.

    A cancellation that the task caught, or that was lost on its way, is repeated. Made by `Deadlines.after`.
    """

    __slots__ = ("_asked", "_cancelling", "_line", "_task", "_timer")

    def __init__(self, line: "_Line | None") -> None:
        self._line = line
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def expired(self) -> bool:
        """Whether the time was over before the run ended."""
        return self._asked > 0

    def __enter__(self) -> None:
        if self._line is not None:
            # With its loop: asyncio would else look it up, before Python 3.12 with a system call (getpid).
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
        # Also where the run has caught the cancellation and returned: its time was over all the same.
        if kind is None or (kind is asyncio.CancelledError and left <= self._cancelling):
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the run: its time is over."""
        self._asked += 1
        if self._asked == 2:
            extra = {"task_id": self._task.get_name(), "seconds": CANCEL_AGAIN}
            _log.warning("a task ignores its timeout: it keeps its slot until it ends", extra=extra)
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(CANCEL_AGAIN, self.expire)


class Deadlines:
    """The deadlines of the runs of one event loop.

    Among runs with the same limit, those that began first expire first: a FIFO line and one timer per limit. A timer per run would
    cost more than the rest of its deadline.
    """

    def __init__(self) -> None:
        self._lines: dict[float, _Line] = {}

    def after(self, limit: float | None) -> Deadline:
        """A deadline `limit` seconds after it is entered; None is never."""
        if limit is None:
            return Deadline(None)
        if (line := self._lines.get(limit)) is None:
            if len(self._lines) >= MAX_LINES:
                self._drop_empty_lines()
            line = self._lines[limit] = _Line(limit)
        return Deadline(line)

    def _drop_empty_lines(self) -> None:
        for line in [each for each in self._lines.values() if each.empty]:
            line.close()
            del self._lines[line.limit]


class _Line:
    """Deadlines with the same limit, in the order in which they expire."""

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
        """Expire what is due, and set the timer for the next. Most deadlines have left before their time."""
        self._timer, now = None, self.loop.time()
        while self._ends:
            deadline, ends = next(iter(self._ends.items()))
            if ends > now:
                self._timer = self.loop.call_at(ends, self._look)
                return
            del self._ends[deadline]
            deadline.expire()


async def run_softly(run: Awaitable[Any], limit: float) -> Any:
    """Await the run, and raise SoftTimeout in it once after `limit` seconds, at whatever it awaits then."""
    return await _with_soft_timeout(run, _SoftCancel(limit))


class _SoftCancel:
    """Cancels the current task, so that what it awaits is interrupted, and takes that cancellation back."""

    def __init__(self, limit: float) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine runs in a task)
        self._task = task
        self._limit = limit
        self._before = task.cancelling()
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = task.get_loop().call_later(limit, self._ask)

    def end(self) -> None:
        """Cancel no more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._asked:
            self._asked -= 1
            self._task.uncancel()

    def translated(self, error: BaseException) -> BaseException:
        """SoftTimeout for our own cancellation; any other error as it is."""
        mine = isinstance(error, asyncio.CancelledError) and 0 < self._asked == self._task.cancelling() - self._before
        if not mine:
            return error
        self.end()
        return SoftTimeout(f"did not end within {self._limit:g} s")

    def _ask(self) -> None:
        self._asked += 1
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(CANCEL_AGAIN, self._ask)


@types.coroutine
def _with_soft_timeout(run: Awaitable[Any], cancel: _SoftCancel) -> Generator[Any, Any, Any]:
    """`yield from`, but for what `cancel` translates on its way into the run."""
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
                go_on, argument = steps.throw, cancel.translated(error)
    finally:
        cancel.end()


T = TypeVar("T")


def call_softly(function: Callable[[], T], after: float) -> T:
    """Call it, and raise SoftTimeout in it once after `after` seconds; native code has to return to Python first."""

    def interrupt(*_: Any) -> None:
        raise SoftTimeout(f"did not end within {after:g} s")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        return function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
