"""How many partitions each queue has, as Redis keeps it for clients, workers and people."""

import time
from collections.abc import Callable, Sequence

from stoker.errors import RedisUnavailable
from stoker.queue.keys import catalogue, partition_counts
from stoker.redis.client import RedisClient, ask
from stoker.rules.effects import Locate
from stoker.rules.partitions import partition_names, partition_of
from stoker.rules.workflow import Steps, queues_of

FRESH = 10.0
"""Seconds for which a count is believed. A worker that has more of them serves the old ones as well, so nobody is in a hurry."""


class Partitions:
    """The counts of one namespace, asked for when they are needed and kept for a while. Raises RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, namespace: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._namespace = namespace
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, list[str]]] = {}

    def remembered(self, queue: str) -> list[str] | None:
        """The places of a queue without asking; None where that would be too old."""
        at, names = self._known.get(queue, (0.0, []))
        return names if names and self._monotonic() - at < FRESH else None

    async def places(self, queue: str) -> list[str]:
        """All places of a queue. Of one place that was named itself, only that one."""
        if ":" in queue:
            return [queue]
        return self.remembered(queue) or await self._look(queue)

    async def locator(self, chains: Sequence[Steps]) -> Locate:
        """A function that says in which partition each task and join of these chains belongs."""
        names = {queue: await self.places(queue) for queue in queues_of(chains)}
        return lambda queue, key: partition_of(key, names[queue])

    async def register(self, queue: str, partitions: int) -> list[str]:
        """Make a queue with so many partitions known. It keeps those it has, whose tasks nobody else would run."""
        counts = partition_counts(self._namespace)
        before = int(await ask(self._redis, "HGET", counts, queue) or 1)
        if partitions > before:
            await ask(self._redis, "HSET", counts, queue, partitions)
        names = partition_names(queue, max(before, partitions))
        await ask(self._redis, "SADD", catalogue(self._namespace), *names)
        self._known[queue] = (self._monotonic(), names)
        return names

    async def _look(self, queue: str) -> list[str]:
        try:
            count = await ask(self._redis, "HGET", partition_counts(self._namespace), queue)
        except RedisUnavailable:
            if queue in self._known:
                return self._known[queue][1]
            raise
        names = partition_names(queue, int(count or 1))
        self._known[queue] = (self._monotonic(), names)
        return names
