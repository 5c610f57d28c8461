"""What runs tell of themselves, sent at most twice a second for all of them together, and before a run is settled."""

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
from stoker.task import context
from stoker.telemetry.metrics import WorkerMetrics

EVERY = 0.5
LAST_WORDS = 2.0
"""Seconds that a run's end waits for its last news to be taken."""
WORDS = 500
"""Characters of a line, and of a note, that are kept."""
_encode = msgspec.json.Encoder().encode


class Account:
    """What one run tells. Any thread may."""

    def __init__(self, delivery: Delivery, notes: "Notes", clock: Clock) -> None:
        self._delivery = delivery
        self._notes = notes
        self._clock = clock
        self._lock = threading.Lock()
        self._progress = b""
        self._lines: deque[bytes] = deque(maxlen=MOST_LINES)
        self._count = 0

    def progress(self, done: float, total: float | None, note: str) -> None:
        """How far it is. Only the last word counts."""
        told = _encode(Progress(done, total, shortened(note), milliseconds(self._clock)))
        with self._lock:
            self._progress = told
        self._notes.touch(self._delivery.fence, self)

    def line(self, level: int, text: str) -> None:
        """A line of its log."""
        name = logging.getLevelName(level).lower()
        line = _encode(LogLine(milliseconds(self._clock), self._delivery.attempt, name, shortened(text)))
        with self._lock:
            self._lines.append(line)
            self._count += 1
        self._notes.touch(self._delivery.fence, self)

    def news(self) -> Note:
        """What has not been sent."""
        with self._lock:
            lines, progress = list(self._lines), self._progress
            self._lines.clear()
            self._progress = b""
            first = self._count - len(lines) + 1
        return Note(self._delivery.id, self._delivery.fence, progress, first, lines)

    def not_sent(self, note: Note) -> None:
        """Take news back, to send them with the next."""
        with self._lock:
            self._lines = deque([*note.lines, *self._lines], MOST_LINES)
            self._progress = self._progress or note.progress
        self._notes.touch(self._delivery.fence, self)


class Notes:
    """The accounts of one worker's runs. Belongs to one event loop; `touch` may be called from any thread."""

    def __init__(self, broker: Broker, metrics: WorkerMetrics, clock: Clock = system) -> None:
        self._broker = broker
        self._metrics = metrics
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self.waiting: dict[str, Account] = {}  # by fence: whose news has not been sent
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    def of(self, delivery: Delivery) -> Account:
        """For a run that may have something to tell."""
        self._loop = self._loop or asyncio.get_running_loop()
        return Account(delivery, self, self._clock)

    def touch(self, fence: str, account: Account) -> None:
        """There is news of this run."""
        if fence not in self.waiting:
            self.waiting[fence] = account
            with suppress(RuntimeError):  # a thread that outlived its worker has nobody to tell
                self._in_loop().call_soon_threadsafe(self._wait)

    async def last_words(self, delivery: Delivery) -> None:
        """Send what is left of a run that has ended; its settlement follows, after which nothing would be taken."""
        if account := self.waiting.pop(delivery.fence, None):
            # The run is over, and its outcome counts: neither trouble nor a late cancellation may change it now.
            with suppress(StokerError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._tell([account.news()])

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self._in_loop().call_later(EVERY, self._send)

    def _send(self) -> None:
        self._timer = None
        self._sending = self._in_loop().create_task(self._send_all())

    def _in_loop(self) -> asyncio.AbstractEventLoop:
        return cast(asyncio.AbstractEventLoop, self._loop)  # whoever has an account was given it there

    async def _send_all(self) -> None:
        waiting, self.waiting = self.waiting, {}
        news = [(account, account.news()) for account in waiting.values()]
        try:
            await self._tell([note for _, note in news])
        except StokerError:
            for account, note in news:
                account.not_sent(note)

    async def _tell(self, notes: list[Note]) -> None:
        refused = (await self._broker.write_notes(notes)).count(False)
        if refused:
            self._metrics.stale.inc(refused)


class Listener(Protocol):
    """Whoever takes what runs tell."""

    def of(self, delivery: Delivery) -> context.Account:
        """For a run that may have something to tell."""
        ...


telling: ContextVar[Listener | None] = ContextVar("stoker.telling", default=None)
"""Where the runs of this worker or child tell what they have to tell; None where nobody listens."""


def shortened(text: str) -> str:
    """As much of it as is kept, in characters that UTF-8 can carry."""
    return text[:WORDS].encode(errors="backslashreplace").decode()
