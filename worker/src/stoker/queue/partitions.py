"""Partitions: how many each queue has, read from Redis and cached."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from stoker.errors import RedisFull, RedisUnavailable, RedisUnreadable
from stoker.queue.keys import catalogue, partition_counts
from stoker.redis.client import RedisClient, ask
from stoker.rules.effects import Locate
from stoker.rules.partitions import MOST, partition_names, partition_of
from stoker.rules.workflow import Steps, queues_of

FRESH = 10.0
"""Seconds for which a count is cached. Counts only grow, and workers serve all partitions, so a stale one loses nothing."""


class Partitions:
    """The partitions of the queues of one namespace, cached for FRESH seconds. Raises RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, namespace: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._namespace = namespace
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, list[str]]] = {}

    def remembered(self, queue: str) -> list[str] | None:
        """The cached names of a queue's partitions; None if there are none, or they are too old."""
        at, names = self._known.get(queue, (0.0, []))
        return names if names and self._monotonic() - at < FRESH else None

    async def names(self, queue: str) -> list[str]:
        """The names of a queue's partitions; of a single partition (with a colon) only its own."""
        if ":" in queue:
            return [queue]
        return self.remembered(queue) or await self._look(queue)

    async def locator(self, chains: Sequence[Steps]) -> Locate:
        """A function that says in which partition each task and join of these chains belongs."""
        names = {queue: await self.names(queue) for queue in queues_of(chains)}
        return lambda queue, key: partition_of(key, names[queue])

    async def register(self, queue: str, partitions: int) -> list[str]:
        """Give a queue this many partitions, never fewer than it has: their tasks would not run. Returns their names.

        A Redis at its maxmemory does not take the announcement, and the names are returned all the same: what drains the queue
        must be able to start. Repeat it, also against a Redis that was emptied.
        """
        counts = partition_counts(self._namespace)
        before = _count(queue, await ask(self._redis, "HGET", counts, queue))
        names = partition_names(queue, max(before, partitions))
        with suppress(RedisFull):
            if partitions > before:
                await ask(self._redis, "HSET", counts, queue, partitions)
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
        names = partition_names(queue, _count(queue, count))
        self._known[queue] = (self._monotonic(), names)
        return names


def _count(queue: str, stored: Any) -> int:
    if stored is None:
        return 1
    if not isinstance(stored, bytes) or not stored.isdigit() or len(stored) > 2 or not 1 <= int(stored) <= MOST:
        raise RedisUnreadable(f"the number of partitions of queue {queue!r} is none within 1..{MOST}: another program wrote it")
    return int(stored)
