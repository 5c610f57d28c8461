"""The autoscaler: every second or so one read per Redis, one decision per queue, and a write only where something changes.

Each Redis is read at its own pace: one that hangs holds back its own queues and nobody else's.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from msgspec.structs import replace

from stoker.autoscale.decide import Decision, decide
from stoker.autoscale.demand import demand_of, policy_of
from stoker.errors import NotFound, StokerError
from stoker.manifest import TaskQueue
from stoker_operator import metrics
from stoker_operator.calendar import Calendar
from stoker_operator.conditions import Note
from stoker_operator.kube import Kube, KubernetesConflict, KubernetesRefused
from stoker_operator.plan import Halt
from stoker_operator.readings import Readings
from stoker_operator.reporter import Reporter, timestamp
from stoker_operator.resources import Ref
from stoker_operator.roster import Change, Entry, Reading, Roster, Scaling, Workers
from stoker_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)


class Autoscaler:
    """One loop for all TaskQueues. `monotonic` is in seconds."""

    def __init__(
        self,
        kube: Kube,
        roster: Roster,
        queue: WorkQueue,
        readings: Readings,
        reporter: Reporter,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._roster = roster
        self._queue = queue
        self._readings = readings
        self._reporter = reporter
        self._monotonic = monotonic
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._failing: set[Ref] = set()
        self._calendar = Calendar(roster, readings)
        self._forgetting: asyncio.Task[None] | None = None

    async def run(self, interval: float, finished: Callable[[], None]) -> None:
        """For ever; `finished` is called after each round."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self.round(group)
                    finished()
                    await asyncio.sleep(interval)
        finally:
            await self._readings.keep_only(())

    async def round(self, group: asyncio.TaskGroup) -> None:
        """Start a look at every Redis that is not being looked at still."""
        by_redis = dict(self._roster.by_redis())
        for url, entries in by_redis.items():
            if url not in self._under_way or self._under_way[url].done():
                self._under_way[url] = group.create_task(self.look(url, entries))
        if self._forgetting is None or self._forgetting.done():
            self._forgetting = group.create_task(self._calendar.forget_the_gone())
        self._under_way = {url: task for url, task in self._under_way.items() if url in by_redis or not task.done()}
        await self._readings.keep_only(self._under_way)

    async def look(self, url: str, entries: list[Entry]) -> None:
        """Read all queues of one Redis, then decide and act on each."""
        queues = [(entry, entry.findings.queue) for entry in entries]
        named = [(entry, queue) for entry, queue in queues if queue is not None]
        readings = await self._readings.read(url, [queue.places for _, queue in named])
        work = [self._follow(entry, queue, reading) for (entry, queue), reading in zip(named, readings, strict=True)]
        await asyncio.gather(*work)

    async def _follow(self, entry: Entry, queue: TaskQueue, reading: Reading) -> None:
        try:
            entry.reading = reading
            workers = entry.findings.workers
            if entry.findings.scalable and workers is not None:
                await self._scale(entry, queue, workers)
            await self._reporter.report(entry)
            await self._calendar.keep(entry, queue)
            self._failing.discard(entry.ref)
        except (NotFound, KubernetesConflict):
            self._queue.add(entry.ref)  # the Deployment is gone or another
        except StokerError as error:
            if entry.ref not in self._failing:  # once, not once a second
                log.warning("cannot act for now: %s", error, extra={"taskqueue": str(entry.ref)})
            self._failing.add(entry.ref)
        except Exception:  # a defect that one TaskQueue meets must not stop the others
            log.exception("a defect in the operator", extra={"taskqueue": str(entry.ref)})

    async def _scale(self, entry: Entry, queue: TaskQueue, workers: Workers) -> None:
        stats = entry.reading.stats
        demand = demand_of(stats) if stats else None
        before = entry.scaling
        memory = before.memory if before else None
        decision = decide(demand, policy_of(queue.spec), workers.replicas, memory, self._monotonic())
        metrics.DECISIONS.labels(decision.reason).inc()
        thought = Scaling(decision.replicas, decision.reason, decision.memory, before.change if before else None)
        if decision.replicas == workers.replicas:
            entry.scaling = thought
            return
        try:
            await self._kube.scale_deployment(entry.ref, workers.uid, decision.replicas)
        except KubernetesRefused as error:
            entry.scaling = replace(thought, refused=Halt("ScaleRefused", f"the API server refused the new number: {error}"))
            return
        entry.scaling = replace(thought, change=self._changed(entry, workers, decision))
        await self._reporter.tell(entry, _note(workers.replicas, decision, entry.reading))

    def _changed(self, entry: Entry, workers: Workers, decision: Decision) -> Change:
        """Remember at once what was asked for: the next decision must not wait for the watch to tell."""
        entry.scaled_at = self._monotonic()
        if entry.findings.workers is not None:
            entry.findings = replace(entry.findings, workers=replace(entry.findings.workers, replicas=decision.replicas))
        return Change(timestamp(), workers.replicas, decision.replicas, decision.reason)


def _note(before: int, decision: Decision, reading: Reading) -> Note:
    stats = reading.stats
    why = f"{decision.reason}, {stats.ready} ready, {stats.running} running" if stats else str(decision.reason)
    direction = "ScaledUp" if decision.replicas > before else "ScaledDown"
    return Note("Normal", direction, f"from {before} to {decision.replicas} workers: {why}")
