"""Announcements: who enqueues makes a partition known to those that list queues, and again after Redis was emptied.

Workers announce theirs too (`worker/process/process.py`); a queue may have none yet.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from stoker.errors import RedisFull, RedisUnavailable
from stoker.queue.health import check_layout
from stoker.queue.keys import Keys, catalogue
from stoker.redis.client import RedisClient, ask

AGAIN_AFTER = 10.0
"""Seconds after which a partition is announced again."""


class Announcements:
    """Those of one process, in one namespace."""

    def __init__(self, redis: RedisClient, namespace: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._namespace = namespace
        self._monotonic = monotonic
        self._at: dict[str, float] = {}

    async def announce(self, partition: str) -> None:
        """Add a partition to the catalogue, unless that was done in the last AGAIN_AFTER seconds.

        Raises RedisUnavailable or RedisRefused the first time, also for a layout that this version does not understand.
        """
        now, at = self._monotonic(), self._at.get(partition)
        if at is None:
            await self._write(partition)
        elif now - at >= AGAIN_AFTER:
            with suppress(RedisUnavailable, RedisFull):  # what it was about to send will say so, or needs no announcement
                await self._write(partition)
        else:
            return
        self._at[partition] = now

    async def _write(self, partition: str) -> None:
        await check_layout(self._redis, Keys(self._namespace, partition))
        await ask(self._redis, "SADD", catalogue(self._namespace), partition)
