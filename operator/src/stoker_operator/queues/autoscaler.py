"""The autoscaler: every second one read per Redis, one decision per queue, and a write to /scale only where it changes something.

Each Redis is read at its own pace: one that hangs delays its own queues only.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence

from msgspec.structs import replace

from stoker.autoscale.decide import Decision, Policy, decide, look_ahead
from stoker.autoscale.demand import demand_of, policy_of
from stoker.autoscale.scaling_record import ScalingRecord, scaling_record, worth_recording
from stoker.errors import NotFound, StokerError
from stoker_operator import metrics
from stoker_operator.kube import Kube, KubernetesConflict, KubernetesRefused
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.queues.schedule_keeper import ScheduleKeeper
from stoker_operator.report.conditions import Notice
from stoker_operator.report.reporter import Reporter, timestamp
from stoker_operator.state.findings import Reading, RedisQueue, Workers
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.problem import Reason, scale_refused
from stoker_operator.state.queue_store import QueueStore
from stoker_operator.state.ref import Ref
from stoker_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)


ROUND_SECONDS = 60.0
"""For one round over one Redis. Each of its requests has a shorter limit: a round that takes longer hangs."""


class Autoscaler:
    """One loop for all TaskQueues. `monotonic` is in seconds."""

    def __init__(
        self,
        kube: Kube,
        store: QueueStore,
        work: WorkQueue,
        pool: RedisPool,
        reporter: Reporter,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._store = store
        self._work = work
        self._pool = pool
        self._reporter = reporter
        self._monotonic = monotonic
        self._schedules = ScheduleKeeper(store, pool)
        self._rounds: dict[str, asyncio.Task[None]] = {}
        self._begun: dict[str, float] = {}  # the start of each of these rounds
        self._cleanup: asyncio.Task[None] | None = None
        self._failing: set[Ref] = set()

    async def run(self, interval: float, finished: Callable[[], None]) -> None:
        """Until cancelled: a round every `interval` seconds. Calls `finished` after each."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self.start_round(group)
                    finished()
                    await asyncio.sleep(interval)
        finally:
            await self._pool.close()

    def longest(self) -> float:
        """Seconds for which the oldest round has been under way."""
        now = self._monotonic()
        return max((now - self._begun[url] for url, task in self._rounds.items() if not task.done()), default=0.0)

    def start_round(self, group: asyncio.TaskGroup) -> None:
        """Start a round for every Redis whose last one has ended."""
        by_redis = self._store.by_redis()
        for url, queues in by_redis.items():
            if url not in self._rounds or self._rounds[url].done():
                self._rounds[url] = group.create_task(self.round(url, queues))
                self._begun[url] = self._monotonic()
        self._begun = {url: at for url, at in self._begun.items() if url in self._rounds}
        self._rounds = {url: task for url, task in self._rounds.items() if url in by_redis or not task.done()}
        if self._cleanup is None or self._cleanup.done():
            self._cleanup = group.create_task(self._clean_up(set(self._rounds)))

    async def round(self, url: str, queues: Sequence[ManagedQueue]) -> None:
        """Read all queues of one Redis, then decide and act on each. Raises nothing: its loop serves all others too."""
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await self._round(url, queues)
        except TimeoutError:
            log.error(
                "a round over a Redis was aborted after %gs",
                ROUND_SECONDS,
                extra={"taskqueues": [str(each.ref) for each in queues]},
            )
        except Exception:
            log.exception("cannot serve a Redis: defect in the operator", extra={"taskqueues": [str(each.ref) for each in queues]})

    async def _round(self, url: str, queues: Sequence[ManagedQueue]) -> None:
        sources = [(queue, queue.findings.source) for queue in queues]
        named = [(queue, source) for queue, source in sources if source is not None]
        horizons = [_horizon(queue, source) for queue, source in named]
        readings = await self._pool.probe(url, [source.partitions for _, source in named], horizons)
        work = [self._follow(queue, source, reading) for (queue, source), reading in zip(named, readings, strict=True)]
        await asyncio.gather(*work)

    async def _clean_up(self, used: Collection[str]) -> None:
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await self._pool.keep_only(used)
                await self._schedules.remove_deleted()
        except Exception:  # it is tried again in the next round
            log.exception("cannot clean up: defect in the operator")

    async def _follow(self, queue: ManagedQueue, source: RedisQueue, reading: Reading) -> None:
        try:
            queue.read(reading)
            if (workers := queue.findings.scalable) is not None and queue.rescaled(self._monotonic()) is None:
                await self._scale(queue, source, workers)
            await self._reporter.report(queue)
            await self._schedules.keep(queue, source)
            self._failing.discard(queue.ref)
        except (NotFound, KubernetesConflict):
            self._work.add(queue.ref)  # the Deployment was deleted or replaced
        except StokerError as error:
            if queue.ref not in self._failing:  # log once, not once a second
                log.warning("cannot scale: %s", error, extra={"taskqueue": str(queue.ref)})
            self._failing.add(queue.ref)
        except Exception:  # a defect met by one TaskQueue, or a strange reply of its Redis, must not stop the others
            if queue.ref not in self._failing:
                log.exception("cannot scale: defect in the operator", extra={"taskqueue": str(queue.ref)})
            self._failing.add(queue.ref)

    async def _scale(self, queue: ManagedQueue, source: RedisQueue, workers: Workers) -> None:
        stats = queue.reading.stats
        demand = demand_of(stats, workers.template, workers.ready) if stats else None
        memory = queue.scaling.memory if queue.scaling else None
        decision = decide(demand, _policy(queue, source, workers), workers.replicas, memory, self._monotonic())
        metrics.DECISIONS.labels(decision.reason).inc()
        refused = ""
        if decision.replicas == workers.replicas:
            queue.decided(decision)
        else:
            refused = await self._set(queue, workers, decision)
        if demand is not None:  # without it there is no Redis to record it in
            await self._record(queue, source, scaling_record(decision, workers.replicas, demand, refused))

    async def _set(self, queue: ManagedQueue, workers: Workers, decision: Decision) -> str:
        """Scale the Deployment. Returns why the API server refused it; "" if it did not."""
        try:
            await self._kube.scale_deployment(queue.ref, workers.uid, workers.replicas, decision.replicas)
        except KubernetesRefused as error:
            queue.scale_refused(decision, scale_refused(error))
            return str(error)
        queue.scaled(decision, workers.replicas, timestamp(), self._monotonic())
        await self._reporter.announce(queue.ref, queue.findings.uid, _scaled(workers.replicas, decision, queue.reading))
        return ""

    async def _record(self, queue: ManagedQueue, source: RedisQueue, record: ScalingRecord) -> None:
        now = self._monotonic()
        if worth_recording(record, queue.recorded, now - queue.recorded_at):
            queue.record(record, now)
            await self._pool.record(source.url, source.id, record)


def _policy(queue: ManagedQueue, source: RedisQueue, workers: Workers) -> Policy:
    """The scaling policy of the spec. While tasks may be left in a former Redis, an empty new one takes away no last worker."""
    policy = policy_of(source.manifest.spec)
    if queue.findings.left_behind is None or workers.replicas == 0:
        return policy
    return replace(policy, min_replicas=max(policy.min_replicas, min(1, policy.max_replicas)))


def _horizon(queue: ManagedQueue, source: RedisQueue) -> float:
    """Seconds ahead for which scheduled tasks are demand."""
    return look_ahead(policy_of(source.manifest.spec), queue.scaling.memory if queue.scaling else None)


def _scaled(before: int, decision: Decision, reading: Reading) -> Notice:
    stats = reading.stats
    why = f"{decision.reason}, {stats.ready} ready, {stats.running} running" if stats else str(decision.reason)
    reason = Reason.SCALED_UP if decision.replicas > before else Reason.SCALED_DOWN
    return Notice("Normal", reason, f"scaled from {before} to {decision.replicas} workers: {why}")
