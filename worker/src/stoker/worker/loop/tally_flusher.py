"""TallyFlusher: adds what a worker process has counted to the records of its queue, about once a minute.

A process that is killed loses what it has counted since its last flush. One that is idle flushes nothing, except once when it
starts, which records its version and learns the queue's max_wait.
"""

import logging
from collections.abc import Callable

from stoker.errors import RedisRefused
from stoker.queue.keys import Keys
from stoker.queue.tallies import Flush, add_tallies
from stoker.redis.client import RedisClient
from stoker.rules.buckets import add_counts
from stoker.rules.tally import difference
from stoker.telemetry.metrics import TaskCollector

_log = logging.getLogger("stoker.worker")


class TallyFlusher:
    """Belongs to one event loop. `keys`: of the queue's first partition. `version`: that of the worker's application."""

    def __init__(self, redis: RedisClient, keys: Keys, worker: str, collector: TaskCollector, version: Callable[[], str]) -> None:
        self._redis = redis
        self._keys = keys
        self._worker = worker
        self._collector = collector
        self._version = version
        self._number = 0
        self._taken: dict[str, dict[str, int]] = {}
        self._pending: Flush | None = None
        self._refused = False

    async def flush(self) -> bool:
        """Flush what has been counted; a flush that got no reply is repeated as it was. Returns False if there is nothing.

        What Redis refuses is dropped, and logged once: at its maxmemory, memory is for settling tasks. Raises RedisUnavailable.
        """
        self._pending = self._pending or self._take()
        if self._pending is None:
            return False
        slo = self._collector.slo
        try:
            max_wait = await add_tallies(self._redis, self._keys, self._pending)
        except RedisRefused as error:
            if not self._refused:
                _log.warning("counts of runs are dropped until Redis takes them", extra={"error": str(error)})
            self._refused = True
        else:
            self._refused = False
            slo.max_wait = -1.0 if max_wait is None else max_wait
        self._pending = None
        return True

    def _take(self) -> Flush | None:
        counted = self._collector.tallies()
        tasks = {task: difference(counts, self._taken.get(task, {})) for task, counts in counted.items()}
        tasks = {task: counts for task, counts in tasks.items() if counts}
        if self._number and not tasks:
            return None
        self._taken = counted
        self._number += 1
        total: dict[str, int] = {}
        for counts in tasks.values():
            add_counts(total, counts)
        slo = self._collector.slo
        started, in_time = (slo.started, slo.in_time) if slo.max_wait >= 0 else (0, 0)
        slo.started = slo.in_time = 0
        return Flush(self._worker, self._number, self._version(), tasks, total, started, in_time)
