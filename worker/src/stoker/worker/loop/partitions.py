"""The workers of one process: one for each partition of its queue, which share its slots. A queue usually has one.

A worker of a partition has its own line, leases and turns; all of them start, beat, drain and leave together.
"""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from stoker.app.app import Stoker
from stoker.manifest import RateLimit
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.redis.client import RedisClient
from stoker.rules.partitions import share
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop.worker import Worker


class Crew:
    """Empty until it is told its `places`. Belongs to one event loop."""

    def __init__(self, name: str, app: Stoker, settings: WorkerSettings, redis: RedisClient, metrics: WorkerMetrics) -> None:
        self.name = name
        self.workers: list[Worker] = []
        self.brokers: list[Broker] = []
        self._app = app
        self._settings = settings
        self._redis = redis
        self._metrics = metrics
        self._orders = 0
        self.recycling = False

    @property
    def told_to_leave(self) -> bool:
        """Whether somebody outside wants it to end."""
        return self._orders > 0

    @property
    def runs(self) -> int:
        """How many tasks have run here."""
        return sum(worker.runs for worker in self.workers)

    @property
    def busy(self) -> int:
        """Tasks that run now."""
        return sum(worker.busy for worker in self.workers)

    @property
    def rested(self) -> bool:
        """Whether no more tasks are taken, nothing runs, and Redis has all outcomes. Safe to ask from another thread."""
        return all(worker.resting and worker.empty for worker in self.workers)

    @property
    def trouble(self) -> str | None:
        """Why a worker takes no tasks; None while all do."""
        return next((worker.trouble for worker in self.workers if worker.trouble), None)

    def muster(self, places: Sequence[str]) -> None:
        """A worker for each place, with its share of the slots and of the rate limit."""
        children = self._settings.children
        for number, place in enumerate(places):
            settings = replace(
                self._settings,
                concurrency=share(self._settings.concurrency, len(places), number),
                children=replace(children, count=children.count and max(1, share(children.count, len(places), number))),
                rate_limit=_part(self._settings.rate_limit, len(places)),
            )
            keys = Keys(settings.namespace, place)
            broker = Broker(self._redis, keys, settings.lease, settings.retention, settings.rate_limit)
            self.brokers.append(broker)
            self.workers.append(Worker(self.name, self._app, settings, broker, self._metrics))
        orders, self._orders = self._orders, 0
        for _ in range(orders):
            self.leave()

    def rest(self) -> None:
        """Take no more, and stay."""
        for worker in self.workers:
            worker.rest()

    def recycle(self) -> None:
        """Drain, and ask for another process in this one's place; whoever wants it to leave for good comes first."""
        if not self._orders:
            self.recycling = True
            for worker in self.workers:
                worker.drain()

    def leave(self) -> None:
        """The first time: take no more and finish what runs. The second time: give it back at once."""
        self._orders += 1
        self.recycling = False
        for worker in self.workers:
            if self._orders == 1:
                worker.drain()
            else:
                worker.release()

    def give_back(self) -> None:
        """Leave at once: what runs has lost what it runs on."""
        self.leave()
        self.leave()

    async def run(self) -> None:
        """Work until drained."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(worker.run())


def _part(limit: RateLimit | None, partitions: int) -> RateLimit | None:
    """What one partition may start: together no more than the limit, but each of them at least one a second."""
    return limit and RateLimit(max(1, limit.per_second // partitions), max(1, limit.burst // partitions))
