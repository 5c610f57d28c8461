"""A worker pod has ended: what it still held is given back at once, where otherwise its leases would have to end first.

Nothing depends on it: where a pod's end is missed, or Redis is away for longer than we insist, the leases end all the same.
"""

import asyncio
import logging
from collections import OrderedDict
from typing import NamedTuple

from stoker_operator import metrics
from stoker_operator.readings import Readings
from stoker_operator.resources import Ref
from stoker_operator.roster import Roster

log = logging.getLogger(__name__)
AT_ONCE = 4
TRIES = 3
TRY_AGAIN = 2.0
"""Seconds between tries. Beyond them the leases have ended."""
REMEMBERED = 2000


class Ended(NamedTuple):
    """A pod of a TaskQueue that has ended for good."""

    ref: Ref
    pod: str
    uid: str


class Reclaimer:
    """Belongs to one event loop."""

    def __init__(self, roster: Roster, readings: Readings) -> None:
        self._roster = roster
        self._readings = readings
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, ended: Ended) -> None:
        """Tell of a pod, as often as it is seen."""
        if ended.uid in self._seen:
            return
        self._seen[ended.uid] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self._ended.put_nowait(ended)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            ended = await self._ended.get()
            try:
                await self._reclaim(ended)
            except Exception:  # a defect that one pod meets must not cost the others their seconds
                log.exception("a defect in the operator", extra={"taskqueue": str(ended.ref), "pod": ended.pod})

    async def _reclaim(self, ended: Ended) -> None:
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(TRY_AGAIN)
            entry = self._roster.entries.get(ended.ref)
            if entry is None or not entry.findings.readable or entry.findings.queue is None:
                continue  # the pod may be told of before its TaskQueue was read
            queue = entry.findings.queue
            reaped = await self._readings.reap(entry.findings.redis_url, queue.queue, ended.pod, queue.spec.lease.max_lost)
            if reaped is None:
                continue
            if taken := reaped.given_back + reaped.buried:
                metrics.RECLAIMED.labels(ended.ref.namespace, queue.queue).inc(taken)
                details = {"taskqueue": str(ended.ref), "pod": ended.pod, **reaped._asdict()}
                log.info("gave back what a pod held that has ended", extra=details)
            return
