"""Chores: the maintenance that workers do beside their tasks: promote, reap, sweep, inbox, relay, schedules.

A chore is data: a name, when it is due, and a coroutine function that does one finite pass. Its schedule is separate: worker
processes `repeat` theirs, the testing kit calls each once. Those of a partition are done by one of its workers, the minder: `mind`
asks Redis which are due. The replies to fetches and heartbeats make a worker the minder, and replace one that misses its moment: no
single process has to be alive for a dead worker's tasks to come back. Passes are bounded and idempotent: two workers may do the
same one.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn, Protocol

from stoker.errors import Invalid, RedisRefused, StokerError
from stoker.queue.broker import PROMOTED_AT_ONCE, Broker
from stoker.queue.catalogue import Catalogue
from stoker.queue.inbox import Inbox
from stoker.queue.reaping import REAPED_AT_ONCE
from stoker.queue.schedules import HOLD, Schedules
from stoker.queue.settlements import SETTLED_AT_ONCE
from stoker.queue.workflows.outbox import RELAYED_AT_ONCE, Outbox
from stoker.rules.schedule import Definition
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop.minding import Minding
from stoker.worker.loop.outage import Recovery
from stoker.worker.loop.tally_flusher import TallyFlusher
from stoker.worker.system.memory import resident

INTERVAL = 1.0
DECLARE_INTERVAL = HOLD / 4
TALLY_INTERVAL = 50.0
"""Jittered, so at most a minute: what a killed worker loses. Two hundred workers spread their flushes over twenty seconds."""
FORGET_INTERVAL = 600.0
RUNS_INTERVAL = 0.1
RETRY_INTERVAL = 1.0
"""Seconds until the next pass after one that failed, unless its interval is shorter."""
JITTER = 0.2
"""Share of the interval by which passes vary, so that workers which started together drift apart."""
_log = logging.getLogger("stoker.worker")


class Pass(NamedTuple):
    """What one pass did: `moved` tasks or entries. `next_in`: seconds until the next is due, where that is before the interval."""

    moved: int = 0
    next_in: float | None = None


class Chore(NamedTuple):
    """`once` does a pass: all that is due, in bounded calls.

    Passes are made whenever `due` is set, and every `interval` seconds (None: only when `due` is set). `at_start`: the first pass
    does not wait for the interval.
    """

    name: str
    once: Callable[[], Awaitable[Pass]]
    due: asyncio.Event
    interval: float | None = None
    at_start: bool = False


async def repeat(chore: Chore) -> NoReturn:
    """Do passes until cancelled. One that fails is logged and tried again."""
    pause = 0.0 if chore.at_start else _pause(chore.interval)
    while True:
        await _wait(pause, chore.due)
        chore.due.clear()
        pause = _pause(chore.interval)
        try:
            done = await chore.once()
        except StokerError as error:
            _log.debug("chore failed, trying again", extra={"chore": chore.name, "error": str(error)})
            pause = _sooner(pause, _jittered(RETRY_INTERVAL))
        else:
            pause = _sooner(pause, done.next_in)


def mind(broker: Broker, worker: str, minding: Minding, chores: Iterable[Chore], recovery: Recovery) -> Chore:
    """While this worker minds the partition: look which of these chores are due, and ask for their passes.

    `recovery` is told of looks that fail: a worker whose slots are all busy has no other call that could.
    """
    due = {chore.name: chore.due for chore in chores}

    async def once() -> Pass:
        try:
            found = await broker.mind(worker)
        except StokerError:
            recovery.failed()
            raise
        recovery.over()
        minding.mine = found is not None
        if found is None:
            return Pass()
        for name in found.names & due.keys():
            due[name].set()
        return Pass(len(found.names), found.next_in)

    return Chore("mind", once, minding.due)


def promote(broker: Broker) -> Chore:
    """Make due tasks ready, even while every worker is full, so that the autoscaler sees them."""

    async def once() -> Pass:
        total = 0
        while True:
            moved, next_in = await broker.promote(PROMOTED_AT_ONCE)
            total += moved
            if moved < PROMOTED_AT_ONCE:
                return Pass(total, next_in)

    return Chore("promotion", once, asyncio.Event())


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

    return Chore("reap", once, asyncio.Event())


def sweep(broker: Broker) -> Chore:
    """Delete ended tasks past their retention."""

    async def once() -> Pass:
        total = 0
        while True:
            swept = await broker.sweep()
            total += sum(swept)
            if max(swept) < SETTLED_AT_ONCE:
                return Pass(total)

    return Chore("sweep", once, asyncio.Event())


def take_in(inbox: Inbox) -> Chore:
    """Turn inbox entries of other programs into tasks. What cannot be one becomes a dead letter."""

    async def once() -> Pass:
        total = 0
        while (taken := await inbox.take_in()).read:
            total += taken.read
            if taken.buried:
                _log.warning("entries of the inbox went to the dead letters, which say why", extra={"task_ids": taken.buried})
        return Pass(total)

    return Chore("take in", once, asyncio.Event())


def relay(outbox: Outbox, due: asyncio.Event) -> Chore:
    """Enqueue what this queue's outbox holds for other queues.

    `due` is set by a turn that has settled what fills the outbox, and by the minder for what a dead worker left there.
    """
    logged: set[str] = set()

    async def once() -> Pass:
        total = 0
        while entries := await outbox.read():
            try:
                await outbox.relay(entries)
            except Invalid as error:
                if str(error) not in logged:
                    _log.warning("outbox entries cannot be relayed: see stoker doctor", extra={"error": str(error)})
                logged.add(str(error))
                break
            total += len(entries)
            if len(entries) < RELAYED_AT_ONCE:
                break
        return Pass(total)

    return Chore("relay", once, due)


def start_runs(schedules: Schedules) -> Chore:
    """Start the runs of schedules that are due, and record how earlier ones have ended."""

    async def once() -> Pass:
        total = 0
        while True:
            looked = await schedules.look()
            total += looked.moved
            if looked.started:
                _log.info("scheduled runs started", extra={"task_ids": looked.started})
            if not looked.moved:
                return Pass(total, looked.next_in)

    return Chore("start runs", once, asyncio.Event())


def declare(schedules: Schedules, source: str, definitions: Sequence[Definition]) -> Chore:
    """Declare the application's schedules, and keep them declared against older versions that still run."""
    version, heard = 0, True
    taken: list[str] = []

    async def once() -> Pass:
        nonlocal version, heard, taken
        version = version or await schedules.now()
        answer = await schedules.register(source, version, definitions)
        if not answer.accepted and heard:
            _log.info("a newer version of the application declares the schedules", extra={"source": source})
        if answer.taken and answer.taken != taken:
            _log.warning("schedules of these names are declared elsewhere, which wins", extra={"schedules": answer.taken})
        taken = answer.taken
        heard = answer.accepted
        return Pass()

    return Chore("declare schedules", once, asyncio.Event(), DECLARE_INTERVAL, at_start=True)


def flush_tallies(tallies: TallyFlusher) -> Chore:
    """Add what this process has counted to the records of its queue."""

    async def once() -> Pass:
        return Pass(int(await tallies.flush()))

    return Chore("flush tallies", once, asyncio.Event(), TALLY_INTERVAL, at_start=True)


def forget_idle(catalogue: Catalogue) -> Chore:
    """Delete the names of unused queues: every name that a producer ever wrote would be listed."""

    async def once() -> Pass:
        forgotten = 0
        with suppress(RedisRefused):  # a user of this queue alone has no right on the others
            forgotten = await catalogue.forget_idle()
        return Pass(forgotten)

    return Chore("forget idle queues", once, asyncio.Event(), FORGET_INTERVAL)


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

    return Chore("limit memory", once, asyncio.Event(), INTERVAL)


def limit_runs(workers: Recyclable, limit: int) -> Chore:
    """Replace the process once it has run `limit` tasks; it may run more until the next look."""

    asked = False

    async def once() -> Pass:
        nonlocal asked
        if not asked and workers.runs >= limit:
            asked = True
            _log.info("the limit of tasks is reached: draining, to be replaced", extra={"limit": limit, "runs": workers.runs})
            workers.recycle()
        return Pass()

    return Chore("limit runs", once, asyncio.Event(), RUNS_INTERVAL)


async def _wait(seconds: float | None, due: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await due.wait()


def _pause(interval: float | None) -> float | None:
    return None if interval is None else _jittered(interval)


def _sooner(a: float | None, b: float | None) -> float | None:
    return min((each for each in (a, b) if each is not None), default=None)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
