"""Watchdog: measures for how long the event loop has been blocked, and logs what blocks it."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from itertools import islice

BLOCKED_AFTER = 5.0
"""Seconds of a blocked loop until it is logged."""
STUCK_AFTER = 60.0
"""Seconds of a blocked loop until /livez fails and the heartbeat stops."""
SHOWN_FRAMES = 5
WATCH_INTERVAL = 0.5
_log = logging.getLogger("stoker.worker")
_MESSAGES = {
    "blocked": (logging.WARNING, "a task blocks the event loop: all other tasks of this process wait"),
    "stuck": (logging.CRITICAL, "the event loop is stuck: heartbeats stop, its tasks go to other workers"),
}


class Watchdog:
    """Measures how long the event loop has been blocked. Read from other threads."""

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._thread: int | None = None
        self._logged = ""

    @property
    def silence(self) -> float:
        """Seconds for which the loop has been blocked."""
        return max(0.0, time.monotonic() - self._seen - WATCH_INTERVAL)

    @property
    def stuck(self) -> bool:
        """Whether the process should be killed."""
        return self.silence > STUCK_AFTER

    def report(self) -> None:
        """Log once that the loop is blocked or stuck, with the top frames of its stack, and once that it runs again."""
        state = "stuck" if self.stuck else "blocked" if self.silence > BLOCKED_AFTER else ""
        if state == self._logged:
            return
        self._logged = state
        if state:
            frame = sys._current_frames().get(self._thread or 0)
            stack = traceback.StackSummary.extract(islice(traceback.walk_stack(frame), SHOWN_FRAMES)) if frame else []
            where = [f"{line.filename}:{line.lineno} {line.name}" for line in stack]
            _log.log(*_MESSAGES[state], extra={"seconds": round(self.silence), "at": where})
        else:
            _log.warning("the event loop runs again")

    async def run(self, show: Callable[[float], object]) -> None:
        """Mark the loop as alive until cancelled. `show` is called with the seconds for which it was blocked."""
        self._thread = threading.get_ident()
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            show(self.silence)
            self._seen = time.monotonic()
