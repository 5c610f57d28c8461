"""Runs that wait for the results of other tasks of their own queue: they keep their slots, and may leave none for these."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from stoker.telemetry.logs import running

_log = logging.getLogger("stoker.worker")


class Waits:
    """The waiting runs of one worker, which has `slots`. Any thread may wait."""

    def __init__(self, queue: str, slots: int) -> None:
        self.queue = queue
        self._slots = slots
        self._runs: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._logged = False

    @property
    def count(self) -> int:
        """How many runs wait."""
        return len(self._runs)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The current run waits. It may wait for several results at a time."""
        run = id(running.get())
        with self._lock:
            self._runs[run] += 1
            full = len(self._runs) >= self._slots and not self._logged
            self._logged = self._logged or full
        if full:
            extra = {"slots": self._slots, "queue": self.queue}
            _log.warning("all slots run tasks that wait for tasks of their own queue, which find no slot here", extra=extra)
        try:
            yield
        finally:
            with self._lock:
                self._runs[run] -= 1
                if not self._runs[run]:
                    del self._runs[run]


current_waits: ContextVar[Waits | None] = ContextVar("stoker.current_waits", default=None)
"""Those of the worker that this code runs in."""


@contextmanager
def waiting_for(queue: str) -> Iterator[None]:
    """The caller waits for a task of this queue."""
    waits = current_waits.get()
    if waits is None or waits.queue != queue or running.get() is None:
        yield
        return
    with waits.waiting():
        yield
