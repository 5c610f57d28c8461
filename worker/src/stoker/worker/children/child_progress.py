"""Progress and log lines of runs in a child process, on their way to the worker, which flushes them with those of other runs."""

import threading
from collections.abc import Callable
from contextlib import suppress

from stoker.queue.records import Delivery
from stoker.worker.children.protocol import ReportedLine, ReportedProgress
from stoker.worker.run.progress import shortened

SEND_INTERVAL = 0.1
"""Seconds for which progress is held back; only the last value is sent."""
Send = Callable[[ReportedLine | ReportedProgress], None]


class ChildProgress:
    """Of one child process, which runs one task at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._current: ChildRunProgress | None = None

    def of(self, delivery: Delivery) -> "ChildRunProgress":
        """For a run that begins."""
        self._current = ChildRunProgress(delivery.fence, self._send)
        return self._current

    def flush(self) -> None:
        """Send what is left of a run that has ended."""
        if self._current:
            self._current.send()


class ChildRunProgress:
    """What one run reports, from any thread. A socket that fails is ignored: the task does not depend on it."""

    def __init__(self, fence: str, send: Send) -> None:
        self._fence = fence
        self._send = send
        self._lock = threading.Lock()
        self._progress: ReportedProgress | None = None

    def progress(self, done: float, total: float | None, note: str) -> None:
        """Replace the progress."""
        with self._lock:
            waiting, self._progress = self._progress, ReportedProgress(self._fence, done, total, shortened(note))
            if waiting is None:
                timer = threading.Timer(SEND_INTERVAL, self.send)
                timer.daemon = True
                timer.start()

    def line(self, level: int, text: str) -> None:
        """Send a log line."""
        with suppress(OSError):
            self._send(ReportedLine(self._fence, level, shortened(text)))

    def send(self) -> None:
        """Send the last progress, unless it was sent."""
        with self._lock:
            progress, self._progress = self._progress, None
        if progress:
            with suppress(OSError):
                self._send(progress)
