"""A worker that goes step by step, for one queue: the real one, with somebody else at its crank."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from stoker.app.app import Stoker
from stoker.clock import Clock
from stoker.queue import scripts
from stoker.queue.broker import Broker, pulse
from stoker.queue.inbox import Inbox
from stoker.queue.keys import Keys
from stoker.queue.schedules import Schedules
from stoker.queue.workflows.outbox import Outbox
from stoker.redis.client import RedisClient
from stoker.rules.schedule import Definition
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.testing.record import Run, Witness
from stoker.worker.loop.worker import Worker
from stoker.worker.system.aio import end


class Stepper:
    """The runs are written down in `runs`."""

    def __init__(self, name: str, app: Stoker, settings: WorkerSettings, redis: RedisClient, clock: Clock, runs: list[Run]) -> None:
        keys = Keys(settings.namespace, settings.queue)
        self._redis = redis
        self._broker = Broker(redis, keys, settings.lease, settings.retention, settings.rate_limit)
        self._inbox, self._outbox = Inbox(redis, keys, clock), Outbox(redis, keys)
        self._schedules = Schedules(redis, keys, clock)
        self._source = f"code:{app.name}"
        self._next_run: float | None = None
        metrics = WorkerMetrics(CollectorRegistry(), settings.queue, settings.concurrency)
        report = Witness(metrics.tasks, app, runs)
        self.worker = Worker(name, app, settings, self._broker, metrics, clock, report)

    async def declare(self, definitions: Sequence[Definition]) -> None:
        """Make these schedules known, as every worker does with those of its application."""
        await self._schedules.register(self._source, await self._schedules.now(), definitions)

    async def step(self) -> int:
        """All that is due now: heartbeat, upkeep, settling, taking. Returns how much of it there was."""
        if self.worker.held:
            [answer] = await scripts.run(self._redis, self.worker.heartbeat_call())
            self.worker.hear(pulse(answer))
        return await self._upkeep() + await self.worker.turn() + await self._relay()

    @property
    def back_in(self) -> float | None:
        """In how many seconds there is more to do, as the last step found: what is due, or what a rate limit allows."""
        return min((each for each in (self.worker.back_in, self._next_run) if each is not None), default=None)

    async def sweep(self) -> None:
        """Forget what is past its retention."""
        while max(await self._broker.sweep()):
            pass

    async def crash(self, *, after_running: bool) -> list[str]:
        """Take tasks, run them or not, and settle nothing. Returns their ids."""
        await self._upkeep()
        await self.worker.turn()
        taken = self.worker.held
        if taken and after_running:
            await asyncio.wait(self.worker.running)
        await self.end()
        return taken

    async def _upkeep(self) -> int:
        reaped = await self._broker.reap()
        taken_in, _, _ = await self._inbox.take_in()
        looked = await self._schedules.look()
        self._next_run = looked.next_in
        return reaped.given_back + reaped.buried + taken_in + looked.moved

    async def _relay(self) -> int:
        """What follows in other queues goes there."""
        if entries := await self._outbox.read():
            await self._outbox.relay(entries)
        return len(entries)

    async def end(self) -> None:
        """Give up what runs; nobody hears of it."""
        self.worker.release()
        await end(*self.worker.running)
        await self.worker.close()
