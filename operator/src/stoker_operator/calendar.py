"""The schedules of all TaskQueues: declared from their manifests, started when no worker is there, gone when they are gone."""

import asyncio
from functools import partial
from typing import NamedTuple

from stoker.errors import StokerError
from stoker.manifest import TaskQueue
from stoker.queue.timekeeper import Timekeeper
from stoker_operator.readings import Readings
from stoker_operator.resources import Ref
from stoker_operator.roster import Entry, Roster

TRIES = 60
"""So often a Redis that does not answer is asked to forget what a deleted TaskQueue listed."""


class Kept(NamedTuple):
    """Where a TaskQueue's schedules are."""

    url: str
    queue: str
    timekeeper: Timekeeper


class Calendar:
    """Belongs to one event loop."""

    def __init__(self, roster: Roster, readings: Readings) -> None:
        self._roster = roster
        self._readings = readings
        self._kept: dict[Ref, Kept] = {}
        self._tries: dict[Ref, int] = {}

    async def keep(self, entry: Entry, queue: TaskQueue) -> None:
        """Declare and start what is due. Raises StokerError."""
        findings, stats = entry.findings, entry.reading.stats
        if findings.halt is not None or findings.suspended or stats is None:
            return
        kept = self._kept.get(entry.ref)
        if kept is None or kept[:2] != (findings.redis_url, queue.queue):
            kept = self._kept[entry.ref] = Kept(findings.redis_url, queue.queue, Timekeeper())
        keep = partial(kept.timekeeper.keep, definitions=queue.schedules, version=findings.generation, stats=stats)
        await self._readings.at_schedules(kept.url, kept.queue, keep)

    async def forget_the_gone(self) -> None:
        """What TaskQueues listed that are no more, unless another serves their queue."""
        gone = [ref for ref in self._kept if ref not in self._roster.entries]
        await asyncio.gather(*(self._forget(ref) for ref in gone))

    async def _forget(self, ref: Ref) -> None:
        kept = self._kept[ref]
        self._tries[ref] = self._tries.get(ref, 0) + 1
        if not self._taken_over(kept) and self._tries[ref] <= TRIES:
            try:
                await self._readings.at_schedules(kept.url, kept.queue, kept.timekeeper.forget)
            except StokerError:
                return  # the next round tries again
        del self._kept[ref], self._tries[ref]

    def _taken_over(self, kept: Kept) -> bool:
        places = [(entry.findings.redis_url, entry.findings.queue) for entry in self._roster.entries.values()]
        return any(url == kept.url and queue is not None and queue.queue == kept.queue for url, queue in places)
