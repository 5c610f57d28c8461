"""The schedules of all TaskQueues: declare them in Redis, start due runs (there may be no worker), remove those of deleted ones."""

import asyncio
import logging
from functools import partial
from typing import NamedTuple

from stoker.errors import StokerError
from stoker.queue.timekeeper import Timekeeper
from stoker.rules.identity import QueueId
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.findings import RedisQueue
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.queue_store import QueueStore
from stoker_operator.state.ref import Ref

log = logging.getLogger(__name__)
MAX_ATTEMPTS = 60
"""Attempts, one a second, to remove the schedules of a deleted TaskQueue from a Redis that does not answer."""


class Declared(NamedTuple):
    """Where a TaskQueue's schedules are declared."""

    url: str
    queue: QueueId
    timekeeper: Timekeeper


class ScheduleKeeper:
    """Belongs to one event loop."""

    def __init__(self, store: QueueStore, pool: RedisPool) -> None:
        self._store = store
        self._pool = pool
        self._declared: dict[Ref, Declared] = {}
        self._attempts: dict[Ref, int] = {}

    async def keep(self, queue: ManagedQueue, source: RedisQueue) -> None:
        """Declare the schedules and start what is due; while the spec has a problem, those declared before. Raises StokerError."""
        findings, stats = queue.findings, queue.reading.stats
        if findings.scalable is None or stats is None:
            return
        declared = self._declared.get(queue.ref)
        if declared is None or declared[:2] != (source.url, source.id):
            declared = self._declared[queue.ref] = Declared(source.url, source.id, Timekeeper())
        definitions = source.manifest.schedules if findings.problem is None else None
        keep = partial(declared.timekeeper.keep, definitions=definitions, version=findings.generation, stats=stats)
        await self._pool.with_schedules(declared.url, declared.queue, keep)

    async def remove_deleted(self) -> None:
        """Remove the schedules of deleted TaskQueues, unless another TaskQueue serves the queue. Raises nothing."""
        deleted = [ref for ref in self._declared if self._store.get(ref) is None]
        await asyncio.gather(*(self._remove(ref) for ref in deleted))

    async def _remove(self, ref: Ref) -> None:
        declared = self._declared[ref]
        self._attempts[ref] = self._attempts.get(ref, 0) + 1
        stay = ref in self._store.orphaned or self._served_by_another(declared)
        if not stay and self._attempts[ref] <= MAX_ATTEMPTS:
            try:
                await self._pool.with_schedules(declared.url, declared.queue, declared.timekeeper.forget)
            except StokerError:
                return  # the next round tries again
            except Exception:  # a defect met by one TaskQueue must not stop the others
                log.exception("cannot remove schedules: defect in the operator", extra={"taskqueue": str(ref)})
        del self._declared[ref], self._attempts[ref]

    def _served_by_another(self, declared: Declared) -> bool:
        sources = [each.findings.source for each in self._store.all()]
        return any(source is not None and (source.url, source.id) == declared[:2] for source in sources)
