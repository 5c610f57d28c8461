"""What keeps a worker and its queue in order: the heartbeat, and small loops that promote, reap and sweep.

Every worker does the queue's upkeep. The scripts are bounded and idempotent, so doing it twice costs
little, and no single process has to be alive for a dead worker's tasks to come back.
"""

import asyncio
import logging
import random
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

from stoker.errors import Invalid, RedisRefused, RedisUnavailable, StokerError
from stoker.queue.broker import PROMOTED_AT_ONCE, SETTLED_AT_ONCE, Broker, Pulse, pulse
from stoker.queue.connection import ThreadClient
from stoker.queue.inbox import TAKEN_IN_AT_ONCE, Inbox
from stoker.queue.outbox import RELAYED_AT_ONCE, Outbox
from stoker.queue.reaping import REAPED_AT_ONCE
from stoker.queue.schedules import HOLD, Schedules
from stoker.queue.scripts import Call, run_blocking
from stoker.rules.schedule import Definition
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.memory import resident

BLOCKED_AFTER = 5.0
STUCK_AFTER = 60.0
SHOWN_FRAMES = 5
WATCH_INTERVAL = 0.5
UPKEEP_INTERVAL = 1.0
INBOX_INTERVAL = 0.8
MEMORY_INTERVAL = 1.0
LOOK_APART = 0.02
RENEW_INTERVAL = HOLD / 4
_log = logging.getLogger("stoker.worker")
_NEWS = {
    "blocked": (logging.WARNING, "a task blocks the event loop: its neighbours stand still"),
    "stuck": (logging.CRITICAL, "the event loop is stuck: no heartbeat, its tasks go to other workers"),
}


class Recyclable(Protocol):
    """A worker that can be replaced."""

    @property
    def runs(self) -> int: ...
    def recycle(self) -> None: ...


class LoopWatch:
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


class Heart(Protocol):
    """A worker, as the heartbeat's thread sees it. `hear` is called on the event loop."""

    def heartbeat_call(self) -> Call: ...
    def hear(self, answer: Pulse) -> None: ...


class Heartbeat(threading.Thread):
    """Renews the worker's leases from a thread of its own, so that a busy event loop does not lose them.

    It stops while the loop is stuck: tasks that nobody will ever finish must go to another worker.
    """

    def __init__(
        self, redis: ThreadClient, interval: float, watch: LoopWatch, hearts: Sequence[Heart], on_loop: Callable[..., object]
    ) -> None:
        super().__init__(name="stoker-heartbeat", daemon=True)
        self._redis = redis
        self._interval = interval
        self._watch = watch
        self._hearts = hearts
        self._on_loop = on_loop
        self._ended = threading.Event()

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._ended.is_set():
            self._watch.report()
            if not self._watch.stuck:
                self.beat()
            self._ended.wait(self._interval)

    def beat(self) -> None:
        """One heartbeat of each. A failed one is only logged: the next may still come in time."""
        for heart in self._hearts:
            try:
                answer = pulse(run_blocking(self._redis, heart.heartbeat_call()))
            except StokerError as error:
                _log.warning("heartbeat failed", extra={"error": str(error)})
            else:
                self._on_loop(heart.hear, answer)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended.set()
        if self.is_alive():
            self.join()
        self._redis.close()


async def promote(broker: Broker) -> None:
    """Due tasks become ready even while every worker is full, so that the autoscaler sees them."""

    async def once() -> None:
        while (await broker.promote(PROMOTED_AT_ONCE))[0] == PROMOTED_AT_ONCE:
            pass

    await _every(UPKEEP_INTERVAL, once)


async def reap(broker: Broker, metrics: WorkerMetrics) -> None:
    """Take back what dead workers held."""

    async def once() -> None:
        taken = REAPED_AT_ONCE
        while taken == REAPED_AT_ONCE:
            reaped = await broker.reap()
            taken = reaped.given_back + reaped.buried
            if taken:
                metrics.reclaimed.inc(taken)
                _log.warning("took back the tasks of a lost worker", extra=reaped._asdict())

    await _every(UPKEEP_INTERVAL, once)


async def sweep(broker: Broker) -> None:
    """Forget what is past its retention."""

    async def once() -> None:
        while max(await broker.sweep()) >= SETTLED_AT_ONCE:
            pass

    await _every(UPKEEP_INTERVAL, once)


async def take_in(inbox: Inbox) -> None:
    """What other programs left in the inbox becomes tasks, and what cannot be one becomes a dead letter."""

    async def once() -> None:
        read = TAKEN_IN_AT_ONCE
        while read == TAKEN_IN_AT_ONCE:
            read, _, buried = await inbox.take_in()
            if buried:
                _log.warning("entries of the inbox went to the dead letters, which say why", extra={"task_ids": buried})

    await _every(INBOX_INTERVAL, once)


async def relay(outbox: Outbox, called: asyncio.Event) -> None:
    """What follows in other queues goes there: at once when this worker has settled it (`called`), else when it has lain there
    since the last look, for then whoever settled it is gone.
    """
    seen: set[str] = set()
    told: set[str] = set()

    async def once() -> None:
        nonlocal seen
        everything = called.is_set()
        called.clear()
        while entries := await outbox.read():
            due = entries if everything else [entry for entry in entries if entry.number in seen]
            seen = {entry.number for entry in entries}
            if due:
                try:
                    await outbox.relay(due)
                except Invalid as error:
                    if str(error) not in told:
                        _log.warning("what follows cannot be relayed: see stoker doctor", extra={"error": str(error)})
                    told.add(str(error))
                    return
            if len(due) < RELAYED_AT_ONCE:
                return

    await _every(UPKEEP_INTERVAL, once, called)


async def keep_small(worker: Recyclable, limit: int) -> None:
    """Have the worker replaced once it takes more than `limit` bytes, and has done something for it."""
    taken = 0
    while taken <= limit:
        await asyncio.sleep(MEMORY_INTERVAL)
        taken = resident() if worker.runs else 0
    _log.warning("over the memory limit: draining, to start anew", extra={"memory": taken, "limit": limit, "runs": worker.runs})
    worker.recycle()


async def start_runs(schedules: Schedules) -> None:
    """Start the runs of schedules when they are due: whichever worker looks first."""
    while True:
        pause = UPKEEP_INTERVAL
        try:
            looked = await schedules.look()
        except StokerError as error:
            _log.debug("upkeep failed, trying again", extra={"error": str(error)})
        else:
            if looked.started:
                _log.info("started by the clock", extra={"task_ids": looked.started})
            if looked.moved:
                continue
            if looked.next_in:
                # Not all at the same instant: all but one look in vain.
                pause = min(pause, looked.next_in + random.uniform(0, LOOK_APART))
        await asyncio.sleep(pause)


async def declare(schedules: Schedules, source: str, definitions: Sequence[Definition]) -> None:
    """Make the schedules of the application known, and hold them against those of older versions that run still."""
    version, unheard = 0, False
    while True:
        try:
            version = version or await schedules.now()
            answer = await schedules.register(source, version, definitions)
        except (RedisUnavailable, RedisRefused) as error:
            _log.debug("upkeep failed, trying again", extra={"error": str(error)})
            await asyncio.sleep(UPKEEP_INTERVAL)
            continue
        if not answer.heard and not unheard:
            _log.info("a newer version of the application declares the schedules", extra={"source": source})
        if answer.taken:
            _log.warning("schedules of these names are declared elsewhere, which wins", extra={"schedules": answer.taken})
        unheard = not answer.heard
        await asyncio.sleep(RENEW_INTERVAL * random.uniform(0.8, 1.2))


async def _every(interval: float, action: Callable[[], Awaitable[object]], called: asyncio.Event | None = None) -> None:
    while True:
        # Workers that started together must not work together for ever.
        pause = interval * random.uniform(0.8, 1.2)
        if called is None:
            await asyncio.sleep(pause)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await called.wait()
        try:
            await action()
        except StokerError as error:
            _log.debug("upkeep failed, trying again", extra={"error": str(error)})
