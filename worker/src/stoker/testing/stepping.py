"""Stepper: the real worker of one queue, moved step by step by the testing kit instead of by its own loops."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from stoker.app.app import Stoker
from stoker.clock import Clock
from stoker.queue import scripts
from stoker.queue.broker import pulse
from stoker.queue.keys import Keys
from stoker.queue.schedules import Schedules
from stoker.redis.client import RedisClient
from stoker.rules.announcement import Announcement
from stoker.rules.identity import QueueId
from stoker.rules.schedule import Definition
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.testing.record import Run, RunRecorder
from stoker.worker.loop.partition import Partition
from stoker.worker.system.aio import cancel_all


class Stepper:
    """Runs are recorded in `runs`."""

    def __init__(self, name: str, app: Stoker, settings: WorkerSettings, redis: RedisClient, clock: Clock, runs: list[Run]) -> None:
        keys = Keys(settings.namespace, settings.queue)
        metrics = WorkerMetrics(CollectorRegistry(), QueueId(settings.namespace, settings.queue), settings.concurrency)
        observer = RunRecorder(metrics.tasks, app, runs)
        self._redis = redis
        self._partition = Partition(keys, name, app, settings, redis, metrics, clock, observer)
        self._schedules = Schedules(redis, keys, clock)
        self._source = f"code:{app.name}"
        self._next_due: list[float] = []
        self._announced: Announcement | None = None
        self.worker = self._partition.worker

    async def declare(self, definitions: Sequence[Definition]) -> None:
        """Declare these schedules, as every worker does with those of its application."""
        await self._schedules.register(self._source, await self._schedules.now(), definitions)

    async def step(self) -> int:
        """All that is due now: heartbeat, chores, settling, fetching. Returns how much of it there was."""
        if self.worker.held:
            [answer] = await scripts.run(self._redis, self.worker.heartbeat_call())
            self.worker.apply_heartbeat(pulse(answer))
        if self.worker.announcer.announcement() != self._announced:
            await scripts.run(self._redis, self.worker.announcer.announce_call())
            self._announced = self.worker.announcer.announcement()
        return await self._prepare() + await self.worker.turn() + await self._relay()

    @property
    def back_in(self) -> float | None:
        """Seconds until the next task or run falls due, or the rate limit allows one, as of the last step."""
        return min((*self._next_due, *([self.worker.back_in] if self.worker.back_in is not None else [])), default=None)

    async def sweep(self) -> None:
        """Delete what is past its retention."""
        await self._partition.sweep.once()

    async def crash(self, *, after_running: bool) -> list[str]:
        """Take tasks, run them or not, and settle nothing. Returns their ids."""
        await self._prepare()
        await self.worker.turn()
        taken = self.worker.held
        if taken and after_running:
            await asyncio.wait(self.worker.running)
        await self.end()
        return taken

    async def end(self) -> None:
        """Give up what runs, and settle nothing."""
        self.worker.abort()
        await cancel_all(*self.worker.running)
        await self.worker.close()

    async def _prepare(self) -> int:
        """The chores that make tasks ready."""
        partition = self._partition
        passes = [await chore.once() for chore in (partition.promote, partition.reap, partition.take_in, partition.start_runs)]
        self._next_due = [each.next_in for each in passes if each.next_in is not None]
        return sum(each.moved for each in passes)

    async def _relay(self) -> int:
        return (await self._partition.relay.once()).moved
