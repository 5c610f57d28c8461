"""What runs in a child process tell of themselves, on its way to the worker, which keeps it as it does for all runs."""

import threading
from collections.abc import Callable
from contextlib import suppress

from stoker.queue.records import Delivery
from stoker.worker.children.protocol import Line, Step
from stoker.worker.run.progress import shortened

APART = 0.1
"""Seconds from a word about the progress until it is sent; only the last one of them is."""
Send = Callable[[Line | Step], None]


class Messenger:
    """Of one child, which runs one task at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._account: ChildAccount | None = None

    def of(self, delivery: Delivery) -> "ChildAccount":
        """For the run that begins."""
        self._account = ChildAccount(delivery.fence, self._send)
        return self._account

    def last_words(self) -> None:
        """Send what is left of a run that has ended."""
        if self._account:
            self._account.send()


class ChildAccount:
    """What one run tells. Any thread may. Whether the worker hears it does not concern the task."""

    def __init__(self, fence: str, send: Send) -> None:
        self._fence = fence
        self._send = send
        self._lock = threading.Lock()
        self._step: Step | None = None

    def progress(self, done: float, total: float | None, note: str) -> None:
        """How far it is. Only the last word counts."""
        with self._lock:
            waiting, self._step = self._step, Step(self._fence, done, total, shortened(note))
            if waiting is None:
                timer = threading.Timer(APART, self.send)
                timer.daemon = True
                timer.start()

    def line(self, level: int, text: str) -> None:
        """A line of its log."""
        with suppress(OSError):
            self._send(Line(self._fence, level, shortened(text)))

    def send(self) -> None:
        """Send the last word about the progress, if it is not sent yet."""
        with self._lock:
            step, self._step = self._step, None
        if step:
            with suppress(OSError):
                self._send(step)
