"""Partition: one of a queue's partitions as a worker process serves it: its worker, and the chores that keep it in order."""

from concurrent.futures import ThreadPoolExecutor

from stoker.app.app import Stoker
from stoker.clock import Clock, system
from stoker.queue.broker import Broker
from stoker.queue.inbox import Inbox
from stoker.queue.keys import Keys
from stoker.queue.schedules import Schedules
from stoker.queue.workflows.outbox import Outbox
from stoker.redis.client import RedisClient
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop import chores
from stoker.worker.loop.outage import Recovery
from stoker.worker.loop.slot_pool import PoolShare
from stoker.worker.loop.solitude import Solitude
from stoker.worker.loop.worker import Worker
from stoker.worker.run.observer import RunObserver


class Partition:
    """Belongs to one event loop. `settings` are this partition's share: see `PartitionGroup`."""

    def __init__(
        self,
        keys: Keys,
        worker_name: str,
        app: Stoker,
        settings: WorkerSettings,
        redis: RedisClient,
        metrics: WorkerMetrics,
        clock: Clock = system,
        observer: RunObserver | None = None,
        solitude: Solitude | None = None,
        share: PoolShare | None = None,
        threads: ThreadPoolExecutor | None = None,
    ) -> None:
        self.broker = Broker(redis, keys, settings.lease, settings.retention, settings.rate_limit)
        self.inbox = Inbox(redis, keys, clock)
        self.outbox = Outbox(redis, keys)
        self.worker = Worker(worker_name, app, settings, self.broker, metrics, clock, observer, solitude, share, threads)
        self.promote = chores.promote(self.broker)
        looks = Recovery()
        self.reap = chores.reap(self.broker, metrics, lambda: self.worker.recovering or looks.recent)
        self.sweep = chores.sweep(self.broker)
        self.take_in = chores.take_in(self.inbox)
        self.relay = chores.relay(self.outbox, self.worker.to_relay)
        # The schedules of a queue are in its first partition: those of the others start none.
        self.start_runs = chores.start_runs(Schedules(redis, keys, clock))
        self.mind = chores.mind(self.broker, worker_name, self.worker.minding, self._minded, looks)

    @property
    def _minded(self) -> tuple[chores.Chore, ...]:
        return self.promote, self.reap, self.sweep, self.take_in, self.relay, self.start_runs

    @property
    def chores(self) -> tuple[chores.Chore, ...]:
        """All of them. Order does not matter."""
        return *self._minded, self.mind
