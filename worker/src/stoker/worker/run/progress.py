"""Progress and log lines of running tasks, flushed to Redis at most twice a second for all runs of a worker together.

What is left of a run is flushed before it is settled: Redis takes nothing about a task without its lease.
"""

import asyncio
import logging
import threading
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from typing import Protocol, cast

import msgspec

from stoker.clock import Clock, milliseconds, system
from stoker.errors import StokerError
from stoker.queue.broker import Broker
from stoker.queue.progress import MOST_LINES, Note
from stoker.queue.records import Delivery
from stoker.rules.history import LogLine, Progress
from stoker.task.context import ProgressSink
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.system.aio import hidden

FLUSH_INTERVAL = 0.5
FINAL_FLUSH_TIMEOUT = 2.0
"""Seconds that the end of a run waits for its last flush."""
MAX_CHARACTERS = 500
"""Characters of a log line, and of a progress note, that are kept."""
_encode = msgspec.json.Encoder().encode


class RunProgress:
    """What one run has reported and is not flushed. Any thread may report."""

    def __init__(self, delivery: Delivery, flusher: "ProgressFlusher", clock: Clock) -> None:
        self._delivery = delivery
        self._flusher = flusher
        self._clock = clock
        self._lock = threading.Lock()
        self._progress = b""
        self._lines: deque[bytes] = deque(maxlen=MOST_LINES)
        self._count = 0

    def progress(self, done: float, total: float | None, note: str) -> None:
        """Replace the progress."""
        encoded = _encode(Progress(done, total, shortened(note), milliseconds(self._clock)))
        with self._lock:
            self._progress = encoded
        self._flusher.add(self._delivery.fence, self)

    def line(self, level: int, text: str) -> None:
        """Add a log line."""
        name = logging.getLevelName(level).lower()
        line = _encode(LogLine(milliseconds(self._clock), self._delivery.attempt, name, shortened(text)))
        with self._lock:
            self._lines.append(line)
            self._count += 1
        self._flusher.add(self._delivery.fence, self)

    def take(self) -> Note:
        """Remove and return what is not flushed."""
        with self._lock:
            lines, progress = list(self._lines), self._progress
            self._lines.clear()
            self._progress = b""
            first = self._count - len(lines) + 1
        return Note(self._delivery.id, self._delivery.fence, progress, first, lines)

    def put_back(self, note: Note) -> None:
        """Keep what could not be flushed for the next time."""
        with self._lock:
            self._lines = deque([*note.lines, *self._lines], MOST_LINES)
            self._progress = self._progress or note.progress
        self._flusher.add(self._delivery.fence, self)


class ProgressFlusher:
    """Flushes the progress of one worker's runs. Belongs to one event loop; `add` may be called from any thread."""

    def __init__(self, broker: Broker, metrics: WorkerMetrics, clock: Clock = system) -> None:
        # By fence. Added to by any thread, taken on the event loop.
        self.unsent: dict[str, RunProgress] = {}
        self._broker = broker
        self._metrics = metrics
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    def of(self, delivery: Delivery) -> RunProgress:
        """For a run that begins."""
        self._loop = self._loop or asyncio.get_running_loop()
        return RunProgress(delivery, self, self._clock)

    def add(self, fence: str, progress: RunProgress) -> None:
        """This run has something to flush."""
        if fence not in self.unsent:
            self.unsent[fence] = progress
            with suppress(RuntimeError):  # the loop is closed: a thread has outlived its worker
                self._own_loop().call_soon_threadsafe(self._schedule)

    async def flush_run(self, delivery: Delivery) -> None:
        """Flush what is left of a run that has ended, before its settlement."""
        if progress := self.unsent.pop(delivery.fence, None):
            # The run is over, and its outcome counts: neither trouble nor a late cancellation may change it now.
            with suppress(StokerError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(FINAL_FLUSH_TIMEOUT):
                    await self._send([progress.take()])

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self._own_loop().call_later(FLUSH_INTERVAL, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._sending = hidden(self._own_loop().create_task(self._flush_all()))

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        return cast(asyncio.AbstractEventLoop, self._loop)  # set by `of`, before any run can report

    async def _flush_all(self) -> None:
        unsent, self.unsent = self.unsent, {}
        notes = [(progress, progress.take()) for progress in unsent.values()]
        try:
            await self._send([note for _, note in notes])
        except StokerError:
            for progress, note in notes:
                progress.put_back(note)

    async def _send(self, notes: list[Note]) -> None:
        refused = (await self._broker.write_notes(notes)).count(False)
        if refused:
            self._metrics.stale.inc(refused)


class ProgressSource(Protocol):
    """Makes the sink of each run: a worker's, or a child process'."""

    def of(self, delivery: Delivery) -> ProgressSink:
        """For a run that begins."""
        ...


current_progress: ContextVar[ProgressSource | None] = ContextVar("stoker.current_progress", default=None)
"""Where the runs of this worker or child report progress; None where it is not kept."""


def shortened(text: str) -> str:
    """The first MAX_CHARACTERS, in characters that UTF-8 can carry."""
    return text[:MAX_CHARACTERS].encode(errors="backslashreplace").decode()
