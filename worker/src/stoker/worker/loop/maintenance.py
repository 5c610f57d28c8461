"""Maintenance: the small loops beside a worker that promote, reap, sweep, take in, relay and start what is due.

Every worker does the maintenance of its queue. The scripts are bounded and idempotent, so doing it twice costs little, and no
single process has to be alive for a dead worker's tasks to come back.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from stoker.errors import Invalid, RedisRefused, RedisUnavailable, StokerError
from stoker.queue.broker import PROMOTED_AT_ONCE, Broker
from stoker.queue.inbox import TAKEN_IN_AT_ONCE, Inbox
from stoker.queue.reaping import REAPED_AT_ONCE
from stoker.queue.schedules import HOLD, Schedules
from stoker.queue.settlements import SETTLED_AT_ONCE
from stoker.queue.workflows.outbox import RELAYED_AT_ONCE, Outbox
from stoker.rules.schedule import Definition
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.system.memory import resident

UPKEEP_INTERVAL = 1.0
INBOX_INTERVAL = 0.8
MEMORY_INTERVAL = 1.0
LOOK_APART = 0.02
RENEW_INTERVAL = HOLD / 4
_log = logging.getLogger("stoker.worker")


class Recyclable(Protocol):
    """A worker that can be replaced."""

    @property
    def runs(self) -> int: ...
    def recycle(self) -> None: ...


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
        if not answer.accepted and not unheard:
            _log.info("a newer version of the application declares the schedules", extra={"source": source})
        if answer.taken:
            _log.warning("schedules of these names are declared elsewhere, which wins", extra={"schedules": answer.taken})
        unheard = not answer.accepted
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
