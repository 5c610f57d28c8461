"""Supervisor: the operator's scaling loop on one machine. Reads demand, decides, scales, twice a second."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from stoker.autoscale.decide import Decision, Demand, Memory, decide, look_ahead
from stoker.autoscale.demand import demand_of, policy_of
from stoker.autoscale.scaling_record import ScalingRecord, scaling_record, worth_recording
from stoker.clock import milliseconds
from stoker.errors import StokerError
from stoker.local.fleet import Fleet
from stoker.manifest.task_queue import TaskQueue
from stoker.queue.keys import Keys
from stoker.queue.logbooks import record_decision
from stoker.queue.reads.statistics import read_totals_each
from stoker.queue.records import QueueStats
from stoker.queue.schedules import Schedules
from stoker.queue.timekeeper import Timekeeper
from stoker.redis.client import RedisClient
from stoker.rules.identity import QueueId

INTERVAL = 0.5
_log = logging.getLogger("stoker.local")


class QueueView(Struct, frozen=True):
    """One TaskQueue now. `stats` and `decision` are None while they are not known."""

    name: str
    working: int
    draining: int
    stats: QueueStats | None
    decision: Decision | None
    trouble: str


class Supervisor:
    """Runs one fleet for each TaskQueue."""

    def __init__(
        self, queues: Sequence[TaskQueue], redis: RedisClient, environment: Mapping[str, str], folder: Path, secret_url: str = ""
    ) -> None:
        self.fleets = {queue.name: Fleet(queue, environment, folder, secret_url) for queue in queues}
        self.views: dict[str, QueueView] = {}
        self._queues = queues
        self._redis = redis
        self._recorded: dict[str, tuple[ScalingRecord, float]] = {}
        self._memories: dict[str, Memory] = {}
        self._timekeepers = {queue.name: Timekeeper() for queue in queues}
        self._version = milliseconds()
        self._stopping = False

    async def check(self) -> None:
        """Import every application once. Raises Invalid with the first error."""
        for fleet in self.fleets.values():
            await fleet.check()

    async def run(self) -> None:
        """Scale until cancelled or `stop` is called, then drain every worker."""
        try:
            while not self._stopping:
                await self.step(time.monotonic())
                await asyncio.sleep(INTERVAL)
        finally:
            ended = await asyncio.gather(*(fleet.stop() for fleet in self.fleets.values()), return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    _message(error)

    def stop(self) -> None:
        """End `run` after this step, should a cancellation be lost on its way."""
        self._stopping = True

    async def step(self, now: float) -> None:
        """One reading of all queues, and one decision for each."""
        readings: Sequence[QueueStats | Exception]
        try:
            named = [[QueueId(queue.key_namespace, name) for name in queue.partitions] for queue in self._queues]
            horizons = [look_ahead(policy_of(queue.spec), self._memories.get(queue.name)) for queue in self._queues]
            readings = await read_totals_each(self._redis, named, horizons)
        except Exception as error:
            readings = [error] * len(self._queues)
        for queue, reading in zip(self._queues, readings, strict=True):
            fleet = self.fleets[queue.name]
            stats = None if isinstance(reading, Exception) else reading
            trouble = _message(reading) if isinstance(reading, Exception) else ""
            decision: Decision | None = None
            own = ""
            try:
                before = fleet.replicas
                decision = self._decide(queue, stats, fleet, now)
                await fleet.scale(decision.replicas, now)
                if stats is not None:
                    await self._keep_time(queue, stats)
                    await self._record(queue, scaling_record(decision, before, self._demand(stats, fleet)), now)
            except Exception as error:  # no more processes or files, perhaps: the next step tries again
                own = _message(error)
            shown = trouble or own or fleet.trouble
            self.views[queue.name] = QueueView(queue.name, len(fleet.working), fleet.draining, stats, decision, shown)

    async def _keep_time(self, queue: TaskQueue, stats: QueueStats) -> None:
        schedules = Schedules(self._redis, Keys(queue.key_namespace, queue.queue))
        await self._timekeepers[queue.name].keep(schedules, queue.schedules, self._version, stats)

    async def _record(self, queue: TaskQueue, record: ScalingRecord, now: float) -> None:
        last, at = self._recorded.get(queue.name, (None, now))
        if worth_recording(record, last, now - at):
            self._recorded[queue.name] = (record, now)
            with suppress(StokerError):  # it stands, recorded or not
                await record_decision(self._redis, Keys(queue.key_namespace, queue.queue), record)

    def _decide(self, queue: TaskQueue, stats: QueueStats | None, fleet: Fleet, now: float) -> Decision:
        demand = self._demand(stats, fleet) if stats else None
        decision = decide(demand, policy_of(queue.spec), fleet.replicas, self._memories.get(queue.name), now)
        self._memories[queue.name] = decision.memory
        return decision

    @staticmethod
    def _demand(stats: QueueStats, fleet: Fleet) -> Demand:
        return demand_of(stats, fleet.template, len(fleet.working))


def _message(error: Exception) -> str:
    """What people are shown. An unexpected error is also logged with its traceback."""
    if isinstance(error, StokerError):
        return str(error)
    _log.error("a bug in local scaling: trying again", exc_info=error)
    return f"{type(error).__name__}: {error}"
