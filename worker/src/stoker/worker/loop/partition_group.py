"""PartitionGroup: the partitions of the queues that one process serves. They share its slots, and start and stop together.

Each partition has its own ready line, leases and turns. Most workers serve one queue, and most queues have one partition.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from msgspec.structs import replace

from stoker.app.app import Stoker
from stoker.manifest.policies import RateLimit
from stoker.queue.keys import Keys
from stoker.redis.client import RedisClient
from stoker.rules.partitions import base, share
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop.chores import Chore
from stoker.worker.loop.executors import THREADS
from stoker.worker.loop.partition import Partition
from stoker.worker.loop.shutdown import ShutdownStage
from stoker.worker.loop.slot_pool import PoolShare, SlotPool
from stoker.worker.loop.solitude import Solitude
from stoker.worker.loop.worker import Worker
from stoker.worker.run.observer import RunObserver
from stoker.worker.system.aio import hidden


class ServedQueue(NamedTuple):
    """A queue as this process serves it. `settings` are its own: of several queues, each may fill all slots."""

    settings: WorkerSettings
    metrics: WorkerMetrics
    observer: RunObserver | None = None
    weight: int = 1

    @property
    def name(self) -> str:
        """Its name."""
        return self.settings.queue


class PartitionGroup:
    """Empty until `open` is called. Belongs to one event loop."""

    def __init__(
        self, name: str, app: Stoker, redis: RedisClient, queues: Sequence[ServedQueue], pool: SlotPool | None = None
    ) -> None:
        self.name = name
        self.queues = queues
        self.partitions: list[Partition] = []
        self.workers: list[Worker] = []  # the heartbeat's thread reads it
        self.recycling = False
        self._asked = ShutdownStage.WORKING  # from outside: for good, which goes before recycling
        self._app = app
        self._redis = redis
        self._pool = pool
        limit = max(queue.settings.threads for queue in queues)
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix=THREADS) if limit else None  # of all queues together

    @property
    def draining(self) -> bool:
        """Whether `drain` or `abort` was called. A group that recycles drains too, but may be asked to."""
        return self._asked >= ShutdownStage.DRAINING

    @property
    def runs(self) -> int:
        """How many tasks have run here."""
        return sum(worker.runs for worker in self.workers)

    @property
    def version(self) -> str:
        """The version of the application: the template that its workers announce."""
        return self.workers[0].announcer.announcement().template

    @property
    def busy(self) -> int:
        """Number of running tasks."""
        return sum(worker.busy for worker in self.workers)

    @property
    def drained(self) -> bool:
        """Whether no more tasks are taken, nothing runs, and Redis has all outcomes. Any thread may ask."""
        return all(worker.drained for worker in self.workers)

    @property
    def trouble(self) -> str | None:
        """Why a worker takes no tasks; None while all do, and where one of several queues does."""
        troubles = [worker.trouble for worker in self.workers]
        if self._pool and None in troubles:
            return None
        return next((trouble for trouble in troubles if trouble), None)

    def minds(self, queue: str) -> bool:
        """Whether this process does what one worker of a queue is to do: it minds the first partition."""
        return any(each.broker.keys.queue == queue and each.worker.minding.mine for each in self.partitions)

    def partitions_of(self, queue: str) -> int:
        """How many partitions the queue has."""
        return sum(base(each.broker.keys.queue) == queue for each in self.partitions)

    @property
    def chores(self) -> list[Chore]:
        """Those of all partitions."""
        return [chore for partition in self.partitions for chore in partition.chores]

    def open(self, names: Sequence[Sequence[str]]) -> None:
        """A worker for each partition of each queue: with its share of the slots, the child processes and the rate limit; where
        there are several queues, of a pool of slots instead.
        """
        solitude = Solitude()
        for queue, partitions in zip(self.queues, names, strict=True):
            self.partitions += [self._partition(queue, partitions, number, solitude) for number in range(len(partitions))]
        self.workers += [partition.worker for partition in self.partitions]
        self._stop()  # as far as it was asked for before there was anything to stop

    def _partition(self, queue: ServedQueue, names: Sequence[str], number: int, solitude: Solitude) -> Partition:
        settings, children, count = queue.settings, queue.settings.children, len(names)
        settings = replace(
            settings,
            concurrency=settings.concurrency if self._pool else share(settings.concurrency, count, number),
            children=replace(children, count=children.count and max(1, share(children.count, count, number))),
            rate_limit=_share_of_limit(settings.rate_limit, count),
        )
        keys = Keys(settings.namespace, names[number])
        part = PoolShare(self._pool, queue.weight / count) if self._pool else None
        return Partition(
            *(keys, self.name, self._app, settings, self._redis, queue.metrics),
            observer=queue.observer,
            solitude=solitude,
            share=part,
            threads=self._threads,
        )

    def quiet(self) -> None:
        """Take no more, and stay."""
        self._asked = max(self._asked, ShutdownStage.QUIET)
        self._stop()

    def recycle(self) -> None:
        """Drain, and ask for another process in this one's place, unless `drain` or `abort` came first."""
        if not self.draining:
            self.recycling = True
            for worker in self.workers:
                worker.drain()

    def drain(self) -> None:
        """Take no more, finish what runs, then end."""
        self._asked = max(self._asked, ShutdownStage.DRAINING)
        self.recycling = False
        self._stop()

    def abort(self) -> None:
        """Requeue what runs, and end at once."""
        self._asked = ShutdownStage.ABORTING
        self.recycling = False
        self._stop()

    async def run(self) -> None:
        """Work until drained."""
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self.workers:
                    hidden(group.create_task(worker.run()))
        finally:
            if self._threads:
                self._threads.shutdown(wait=False, cancel_futures=True)

    def _stop(self) -> None:
        for worker in self.workers:
            match self._asked:
                case ShutdownStage.QUIET:
                    worker.quiet()
                case ShutdownStage.DRAINING:
                    worker.drain()
                case ShutdownStage.ABORTING:
                    worker.abort()


def _share_of_limit(limit: RateLimit | None, partitions: int) -> RateLimit | None:
    """What one partition may start: together no more than the limit, but each at least one a second."""
    return limit and RateLimit(max(1, limit.per_second // partitions), max(1, limit.burst // partitions))
