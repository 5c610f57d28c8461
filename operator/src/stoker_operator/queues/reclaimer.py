"""Give back at once what the workers of an ended pod held, instead of waiting for their leases to expire.

An optimization: if a pod's end is missed, or Redis is unreachable for all attempts, the leases expire all the same.
"""

import asyncio
import logging
from collections import OrderedDict
from typing import NamedTuple

from stoker.rules.losses import LossCause
from stoker_operator import metrics
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.queue_store import QueueStore
from stoker_operator.state.ref import Ref

log = logging.getLogger(__name__)
CONCURRENCY = 4
MAX_ATTEMPTS = 3
RETRY_DELAY = 2.0
"""Seconds between attempts. After the last one the leases are about to expire anyway."""
REMEMBERED = 2000
"""UIDs of pods already handled: the end of a pod is seen in several events."""


class EndedPod(NamedTuple):
    """A pod of a TaskQueue that has ended for good. `cause`: None if unknown."""

    ref: Ref
    pod: str
    uid: str
    cause: LossCause | None = None


class Reclaimer:
    """Belongs to one event loop."""

    def __init__(self, store: QueueStore, pool: RedisPool) -> None:
        self._store = store
        self._pool = pool
        self._ended: asyncio.Queue[EndedPod] = asyncio.Queue()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, ended: EndedPod) -> None:
        """Reclaim from this pod, once."""
        if ended.uid in self._seen:
            return
        self._seen[ended.uid] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self._ended.put_nowait(ended)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            ended = await self._ended.get()
            try:
                await self._reclaim(ended)
            except Exception:  # a defect met by one pod must not stop the others
                log.exception("cannot reclaim: defect in the operator", extra={"taskqueue": str(ended.ref), "pod": ended.pod})

    async def _reclaim(self, ended: EndedPod) -> None:
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                await asyncio.sleep(RETRY_DELAY)
            queue = self._store.get(ended.ref)
            source = queue.findings.source if queue else None
            if source is None:
                continue  # the pod's event may come before the first reconcile of its TaskQueue
            manifest = source.manifest
            reaped = await self._pool.reap(source.url, source.id, ended.pod, manifest.spec.lease.max_lost, ended.cause)
            if reaped is None:
                continue
            if taken := reaped.given_back + reaped.buried:
                metrics.RECLAIMED.labels(ended.ref.namespace, manifest.queue).inc(taken)
                details = {"taskqueue": str(ended.ref), "pod": ended.pod, "cause": ended.cause, **reaped._asdict()}
                log.info("reclaimed the tasks of an ended pod", extra=details)
            return
