"""Give back at once what the workers of an ended pod held, instead of waiting for their leases to expire.

An optimization: if a pod's end is missed, or Redis is unreachable for all attempts, the leases expire all the same.
"""

import asyncio
import logging
from collections import OrderedDict
from typing import NamedTuple

from stoker.rules.losses import LossCause
from stoker_operator import metrics
from stoker_operator.fair_queue import FairQueue
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.queue_store import QueueStore
from stoker_operator.state.ref import Ref

log = logging.getLogger(__name__)
CONCURRENCY = 4
SHARE = 2
"""Pods of one namespace at a time."""
MOST_WAITING = 2000
"""Pods of one namespace that wait. What further ones held is given back when its leases expire."""
MAX_ATTEMPTS = 5
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
    attempt: int = 1


class Reclaimer:
    """Belongs to one event loop. Namespaces take turns, and a pod that waits for its next attempt holds up no other."""

    def __init__(self, store: QueueStore, pool: RedisPool) -> None:
        self._store = store
        self._pool = pool
        self._ended: FairQueue[EndedPod] = FairQueue(SHARE, MOST_WAITING)
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, ended: EndedPod) -> None:
        """Reclaim from this pod, once."""
        if ended.uid in self._seen:
            return
        self._seen[ended.uid] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self._ended.put(ended.ref.namespace, ended)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            async with self._ended.take() as ended:
                try:
                    done = await self._reclaim(ended)
                except Exception:  # a defect met by one pod must not stop the others
                    details = {"taskqueue": str(ended.ref), "pod": ended.pod}
                    log.exception("cannot reclaim: defect in the operator", extra=details)
                    continue
            if not done and ended.attempt < MAX_ATTEMPTS:
                again = ended._replace(attempt=ended.attempt + 1)
                asyncio.get_running_loop().call_later(RETRY_DELAY, self._ended.put, ended.ref.namespace, again)

    async def _reclaim(self, ended: EndedPod) -> bool:
        """Returns whether there is nothing more to do."""
        queue = self._store.get(ended.ref)
        source = queue.findings.source if queue else None
        if source is None:
            return False  # the pod's event may come before the first reconcile of its TaskQueue
        manifest = source.manifest
        reaped = await self._pool.reap(source.url, source.id, ended.pod, manifest.spec.lease.max_lost, ended.cause)
        if reaped is None:
            return False
        if taken := reaped.given_back + reaped.buried:
            metrics.RECLAIMED.labels(ended.ref.namespace, manifest.queue).inc(taken)
            details = {"taskqueue": str(ended.ref), "pod": ended.pod, "cause": ended.cause, **reaped._asdict()}
            log.info("reclaimed the tasks of an ended pod", extra=details)
        return True
