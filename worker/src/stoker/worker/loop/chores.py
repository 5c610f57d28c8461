"""Chores: the maintenance that every worker does beside its tasks: promote, reap, sweep, inbox, relay, schedules.

A chore is data: a name, an interval, and a coroutine function that does one finite pass. Its schedule is separate: worker processes
`repeat` theirs, the testing kit calls each once. Passes are bounded and idempotent, so that two workers may do the same one, and no
single process has to be alive for a dead worker's tasks to come back.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn, Protocol

from stoker.errors import Invalid, StokerError
from stoker.queue.broker import PROMOTED_AT_ONCE, Broker
from stoker.queue.inbox import TAKEN_IN_AT_ONCE, Inbox
from stoker.queue.reaping import REAPED_AT_ONCE
from stoker.queue.schedules import HOLD, Schedules
from stoker.queue.settlements import SETTLED_AT_ONCE
from stoker.queue.workflows.outbox import RELAYED_AT_ONCE, Outbox
from stoker.rules.schedule import Definition
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.system.memory import resident

INTERVAL = 1.0
INBOX_INTERVAL = 0.8
DECLARE_INTERVAL = HOLD / 4
RETRY_INTERVAL = 1.0
"""Seconds until the next pass after one that failed, unless its interval is shorter."""
JITTER = 0.2
"""Share of the interval by which passes vary, so that workers which started together drift apart."""
SPREAD = 0.02
"""Seconds over which workers spread a pass that all of them expect at the same moment."""
_log = logging.getLogger("stoker.worker")


class Pass(NamedTuple):
    """What one pass did: `moved` tasks or entries. `next_in`: seconds until the next is due, where that is before the interval."""

    moved: int = 0
    next_in: float | None = None


class Chore(NamedTuple):
    """`once` does a pass: all that is due, in bounded calls. `interval` is in seconds.

    `due`, if set, asks for a pass at once; the pass clears it. `at_start`: the first pass does not wait for the interval.
    """

    name: str
    interval: float
    once: Callable[[], Awaitable[Pass]]
    due: asyncio.Event | None = None
    at_start: bool = False


async def repeat(chore: Chore) -> NoReturn:
    """Do passes until cancelled. One that fails is logged and tried again."""
    pause = 0.0 if chore.at_start else _jittered(chore.interval)
    while True:
        await _wait(pause, chore.due)
        pause = _jittered(chore.interval)
        try:
            done = await chore.once()
        except StokerError as error:
            _log.debug("chore failed, trying again", extra={"chore": chore.name, "error": str(error)})
            pause = min(pause, _jittered(RETRY_INTERVAL))
        else:
            if done.next_in is not None:
                # All workers know this moment, and all but the first look in vain.
                pause = min(pause, done.next_in + random.uniform(0, SPREAD))


def promote(broker: Broker) -> Chore:
    """Make due tasks ready, even while every worker is full, so that the autoscaler sees them."""

    async def once() -> Pass:
        total = 0
        while True:
            moved, _ = await broker.promote(PROMOTED_AT_ONCE)
            total += moved
            if moved < PROMOTED_AT_ONCE:
                return Pass(total)

    return Chore("promote", INTERVAL, once)


def reap(broker: Broker, metrics: WorkerMetrics, recovering: Callable[[], bool] = lambda: False) -> Chore:
    """Take back what dead workers held. Not while Redis is `recovering`: living ones renew their leases only then."""

    async def once() -> Pass:
        if recovering():
            return Pass()
        total, taken = 0, REAPED_AT_ONCE
        while taken == REAPED_AT_ONCE:
            reaped = await broker.reap()
            taken = reaped.given_back + reaped.buried
            total += taken
            if taken:
                metrics.reclaimed.inc(taken)
                _log.warning("took back the tasks of a lost worker", extra=reaped._asdict())
        return Pass(total)

    return Chore("reap", INTERVAL, once)


def sweep(broker: Broker) -> Chore:
    """Delete ended tasks past their retention."""

    async def once() -> Pass:
        total = 0
        while True:
            swept = await broker.sweep()
            total += sum(swept)
            if max(swept) < SETTLED_AT_ONCE:
                return Pass(total)

    return Chore("sweep", INTERVAL, once)


def take_in(inbox: Inbox) -> Chore:
    """Turn inbox entries of other programs into tasks. What cannot be one becomes a dead letter."""

    async def once() -> Pass:
        total, read = 0, TAKEN_IN_AT_ONCE
        while read == TAKEN_IN_AT_ONCE:
            read, _, buried = await inbox.take_in()
            total += read
            if buried:
                _log.warning("entries of the inbox went to the dead letters, which say why", extra={"task_ids": buried})
        return Pass(total)

    return Chore("take in", INBOX_INTERVAL, once)


def relay(outbox: Outbox, due: asyncio.Event) -> Chore:
    """Enqueue what this queue's outbox holds for other queues.

    With `due` set everything, since this worker has just settled it. Otherwise what was there at the pass before: the worker that
    settled it is gone.
    """
    seen: set[str] = set()
    logged: set[str] = set()

    async def once() -> Pass:
        nonlocal seen
        everything = due.is_set()
        due.clear()
        total = 0
        while entries := await outbox.read():
            chosen = entries if everything else [entry for entry in entries if entry.number in seen]
            seen = {entry.number for entry in entries}
            if chosen:
                try:
                    await outbox.relay(chosen)
                except Invalid as error:
                    if str(error) not in logged:
                        _log.warning("outbox entries cannot be relayed: see stoker doctor", extra={"error": str(error)})
                    logged.add(str(error))
                    break
            total += len(chosen)
            if len(chosen) < RELAYED_AT_ONCE:
                break
        return Pass(total)

    return Chore("relay", INTERVAL, once, due)


def start_runs(schedules: Schedules) -> Chore:
    """Start the runs of schedules that are due: the first worker to look does."""

    async def once() -> Pass:
        total = 0
        while True:
            looked = await schedules.look()
            total += looked.moved
            if looked.started:
                _log.info("scheduled runs started", extra={"task_ids": looked.started})
            if not looked.moved:
                return Pass(total, looked.next_in)

    return Chore("start runs", INTERVAL, once, at_start=True)


def declare(schedules: Schedules, source: str, definitions: Sequence[Definition]) -> Chore:
    """Declare the application's schedules, and keep them declared against older versions that still run."""
    version, heard = 0, True

    async def once() -> Pass:
        nonlocal version, heard
        version = version or await schedules.now()
        answer = await schedules.register(source, version, definitions)
        if not answer.accepted and heard:
            _log.info("a newer version of the application declares the schedules", extra={"source": source})
        if answer.taken:
            _log.warning("schedules of these names are declared elsewhere, which wins", extra={"schedules": answer.taken})
        heard = answer.accepted
        return Pass()

    return Chore("declare schedules", DECLARE_INTERVAL, once, at_start=True)


class Recyclable(Protocol):
    """Workers that another process can replace."""

    @property
    def runs(self) -> int: ...
    def recycle(self) -> None: ...


def limit_memory(workers: Recyclable, limit: int) -> Chore:
    """Replace the process once it takes more than `limit` bytes, and has run a task."""

    asked = False

    async def once() -> Pass:
        nonlocal asked
        if workers.runs and not asked and (memory := resident()) > limit:
            asked = True
            extra = {"memory": memory, "limit": limit, "runs": workers.runs}
            _log.warning("over the memory limit: draining, to be replaced", extra=extra)
            workers.recycle()
        return Pass()

    return Chore("limit memory", INTERVAL, once)


async def _wait(seconds: float, due: asyncio.Event | None) -> None:
    if due is None:
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await due.wait()


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
