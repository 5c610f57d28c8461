"""RunLines: how many log lines runs have. One each costs 10 us or more; a busy worker sums them up once a second."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from heapq import nlargest

from stoker.settings import LogTasks
from stoker.telemetry.metrics import TaskCounts

LINES_A_SECOND = 100
"""Lines of single runs in a second. The second after one with more runs has a summary only."""
WINDOW = 1.0
NAMED_TASKS = 10
"""A summary names the most frequent tasks."""
_COUNTED = ("succeeded", "cancelled", "released")
_UNLIMITED = 1 << 62
_log = logging.getLogger("stoker.worker")


def lines_left(mode: LogTasks, ended: int) -> int:
    """How many runs may have their own line in a second, after one in which so many ended. Failures are not counted."""
    match mode:
        case "all":
            return _UNLIMITED
        case "auto":
            return LINES_A_SECOND if ended <= LINES_A_SECOND else 0
        case _:
            return 0


class RunLines:
    """Shared by all queues of a process. Belongs to one event loop.

    `left`: how many runs may still have a line of their own. `failures`: whether those that failed have one, which is not counted.
    """

    def __init__(self, mode: LogTasks = "auto") -> None:
        self.left = lines_left(mode, 0)
        self.failures = mode != "none"
        self._mode = mode
        self._summaries: list[Callable[[], int]] = []
        self._written = 0
        self._window: asyncio.TimerHandle | None = None

    def join(self, summary: Callable[[], int]) -> None:
        """`summary` writes the line about those of a queue's runs that had none, and returns how many they were."""
        self._summaries.append(summary)

    def wrote(self) -> None:
        """A run has had its own line."""
        if self._mode == "auto":
            self.left -= 1
            self._written += 1
            if self._window is None:
                self._open()

    def close(self) -> None:
        """Write the last summary."""
        if self._window:
            self._window.cancel()
            self._over()

    def _open(self) -> None:
        self._window = asyncio.get_running_loop().call_later(WINDOW, self._over)

    def _over(self) -> None:
        ended = self._written + sum(summary() for summary in self._summaries)
        self.left, self._written, self._window = lines_left(self._mode, ended), 0, None
        if not self.left:
            self._open()


class Unlogged:
    """Counts the runs of a queue that had no line of their own."""

    def __init__(self, queue: str, counts: Mapping[str, TaskCounts]) -> None:
        self._queue = queue
        self._counts = counts
        self._accounted: dict[str, dict[str, int]] = {}

    def logged(self, task: str, outcome: str) -> None:
        """One of them had one."""
        self._of(task)[outcome] += 1

    def summary(self) -> int:
        """Write one line about the others. Returns how many they are."""
        outcomes, tasks = dict.fromkeys(_COUNTED, 0), dict[str, int]()
        for task, counts in self._counts.items():
            accounted = self._of(task)
            for outcome in _COUNTED:
                new = getattr(counts, outcome) - accounted[outcome]
                if new:
                    accounted[outcome] += new
                    outcomes[outcome] += new
                    tasks[task] = tasks.get(task, 0) + new
        total = sum(tasks.values())
        if total:
            named = dict(nlargest(NAMED_TASKS, tasks.items(), key=lambda item: item[1]))
            ended = {outcome: count for outcome, count in outcomes.items() if count}
            _log.info("tasks ended", extra={"queue": self._queue, **ended, "tasks": named})
        return total

    def _of(self, task: str) -> dict[str, int]:
        return self._accounted.setdefault(task, dict.fromkeys(_COUNTED, 0))
