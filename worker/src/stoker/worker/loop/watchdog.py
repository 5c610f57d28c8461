"""The watchdog of the event loop: knows for how long it has not come round, and says so in the log."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from itertools import islice

from stoker.telemetry.metrics import WorkerMetrics

BLOCKED_AFTER = 5.0
STUCK_AFTER = 60.0
SHOWN_FRAMES = 5
WATCH_INTERVAL = 0.5
_log = logging.getLogger("stoker.worker")
_NEWS = {
    "blocked": (logging.WARNING, "a task blocks the event loop: its neighbours stand still"),
    "stuck": (logging.CRITICAL, "the event loop is stuck: no heartbeat, its tasks go to other workers"),
}


class Watchdog:
    """Knows for how long the event loop has not come round. Read from other threads."""

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._thread: int | None = None
        self._told = ""

    @property
    def silence(self) -> float:
        """Seconds since the loop last ran what was due."""
        return max(0.0, time.monotonic() - self._seen - WATCH_INTERVAL)

    @property
    def stuck(self) -> bool:
        """True where the process should be given up."""
        return self.silence > STUCK_AFTER

    def report(self) -> None:
        """Log it when the loop gets blocked or stuck, with what it is at, and when it comes round again: each of them once."""
        news = "stuck" if self.stuck else "blocked" if self.silence > BLOCKED_AFTER else ""
        if news == self._told:
            return
        self._told = news
        if news:
            frame = sys._current_frames().get(self._thread or 0)
            stack = traceback.StackSummary.extract(islice(traceback.walk_stack(frame), SHOWN_FRAMES)) if frame else []
            where = [f"{line.filename}:{line.lineno} {line.name}" for line in stack]
            _log.log(*_NEWS[news], extra={"seconds": round(self.silence), "at": where})
        else:
            _log.warning("the event loop comes round again")

    async def run(self, metrics: WorkerMetrics) -> None:
        """Mark the loop as alive, for ever."""
        self._thread = threading.get_ident()
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            metrics.lag.set(self.silence)
            self._seen = time.monotonic()
