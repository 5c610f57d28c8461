"""Queues that have moved to another Redis: what is left in the former one is looked at until it is gone or abandoned."""

import asyncio
import time

from stoker.manifest.task_queue import TaskQueue
from stoker.rules.identity import Holder
from stoker_operator.kube import KubernetesRefused
from stoker_operator.reconcile.applied import MOST_FORMER, Applied, annotation
from stoker_operator.reconcile.claims import Claim, Claims, leave, same_server
from stoker_operator.reconcile.connections import Connections
from stoker_operator.state.findings import LeftBehind, Reading, RedisQueue
from stoker_operator.state.problem import Problem
from stoker_operator.state.redis_problem import former_redis_forgotten
from stoker_operator.state.ref import ABANDON, Object, Ref

UNREAD_PAUSE = 60.0
"""Seconds between looks at a former Redis that cannot be read: each holds up other TaskQueues by its timeout."""


class Moves:
    """Belongs to one event loop.

    The URL of a former Redis is kept in memory alone, since it may have a password. The Deployment's annotation (applied.py) has
    the name of its Secret, by which it is found after a restart, unless that Secret was changed in place.
    """

    def __init__(self, claims: Claims, connections: Connections) -> None:
        self._claims = claims
        self._connections = connections
        self._served: dict[Ref, RedisQueue] = {}
        self._former: dict[Ref, list[RedisQueue]] = {}
        self._left: dict[Ref, LeftBehind] = {}
        self._look_at: dict[Ref, float] = {}  # when to look again at a Redis that could not be read

    def left_behind(self, ref: Ref) -> LeftBehind | None:
        """What the last look found, if anything."""
        return self._left.get(ref)

    def annotation(self, ref: Ref, found: Object) -> str:
        """The annotation of the spec that is applied now (applied.py), with each Redis that the TaskQueue has left and where it may
        have tasks. None of them where its own annotation abandons these.
        """
        if (found["metadata"].get("annotations") or {}).get(ABANDON) == "true":
            self.abandon(ref)
        return annotation(found, [source.manifest.spec.redis for source in self._former.get(ref, ())])

    def abandon(self, ref: Ref) -> None:
        """Look no more at what the TaskQueue has left."""
        self._former.pop(ref, None)
        self._left.pop(ref, None)
        self._look_at.pop(ref, None)

    def forget(self, ref: Ref) -> None:
        """The TaskQueue is gone."""
        self.abandon(ref)
        self._served.pop(ref, None)

    async def follow(self, ref: Ref, now: RedisQueue, own: Holder, applied: Applied | None) -> None:
        """The TaskQueue has claimed its queue. Look at each Redis that it has left. `applied`: what its workers ran by before."""
        before = self._served.get(ref)
        former = self._former.setdefault(ref, [])
        if before is None:
            former += await self._recalled(now, own, applied)
        elif before.url != now.url and await leave(self._claims, Claim(before.url, before.id, own), Claim(now.url, now.id, own)):
            former.append(before)
            self._look_at.pop(ref, None)
        self._served[ref] = now
        former[:] = [each for each in former if not each.url or not same_server(each.url, now.url)]
        await self._look(ref, former)

    async def _recalled(self, now: RedisQueue, own: Holder, applied: Applied | None) -> list[RedisQueue]:
        """After a restart: what the annotation of the Deployment names. An empty URL: not known any more."""
        if applied is None:
            return []
        found: list[RedisQueue] = []
        for manifest in applied.former:
            url = await self._url(manifest)
            found.append(RedisQueue("" if same_server(url, now.url) else url, manifest))
        if applied.manifest.spec.redis != now.manifest.spec.redis:  # changed while the operator was away
            url = await self._url(applied.manifest)
            if not url:
                found.append(RedisQueue("", applied.manifest))
            elif url != now.url:
                before = RedisQueue(url, applied.manifest)
                if await leave(self._claims, Claim(url, before.id, own), Claim(now.url, now.id, own)):
                    found.append(before)
        return found

    async def _url(self, manifest: TaskQueue) -> str:
        """Empty if it cannot be read any more: its Secret is gone, say."""
        try:
            url = await self._connections.url(manifest)
        except KubernetesRefused:
            return ""
        return "" if isinstance(url, Problem) else url

    async def _look(self, ref: Ref, former: list[RedisQueue]) -> None:
        if time.monotonic() < self._look_at.get(ref, 0.0):
            return
        tasks, unread = 0, None
        del former[:-MOST_FORMER]
        known = [source for source in former if source.url]
        if len(known) < len(former):
            unread = former_redis_forgotten()
        # All at once: a tenant may have left one after the other that hangs.
        for source, [reading] in zip(known, await asyncio.gather(*map(self._read, known)), strict=True):
            unread = reading.problem or unread
            if (stats := reading.stats) is not None:
                here = stats.ready + stats.running + stats.scheduled
                tasks += here
                if not here:
                    former.remove(source)
        if former:
            self._left[ref] = LeftBehind(tasks, unread)
            self._look_at[ref] = time.monotonic() + UNREAD_PAUSE if unread else 0.0
        else:
            self.abandon(ref)

    async def _read(self, source: RedisQueue) -> list[Reading]:
        return await self._claims.read(source.url, [source.partitions])
