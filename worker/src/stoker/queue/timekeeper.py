"""The schedules of TaskQueues, kept by whoever has the manifests: the operator and `stoker up`.

They declare what a manifest lists, and start what is due, so that the first run needs no worker to be there before it.
"""

import time
from collections.abc import Callable, Sequence

from stoker.queue.records import QueueStats
from stoker.queue.schedules import HOLD, TASKQUEUE, Schedules
from stoker.rules.schedule import Definition

RENEW_AFTER = HOLD / 4


class Timekeeper:
    """For one TaskQueue. Belongs to one event loop; `monotonic` is in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._declared: Sequence[Definition] | None = None
        self._at = 0.0
        self._version = 0

    async def keep(self, schedules: Schedules, definitions: Sequence[Definition], version: int, stats: QueueStats | None) -> None:
        """Declare these, where they are news or it is time to say so again, and start what the reading says is due.

        Raises RedisUnavailable or RedisRefused.
        """
        now = self._monotonic()
        if self._declared != definitions or now - self._at >= RENEW_AFTER:
            await schedules.register(TASKQUEUE, version, definitions)
            self._declared, self._at, self._version = list(definitions), now, version
        if stats is not None and stats.next_run is not None and stats.next_run <= 0:
            await schedules.look()

    async def forget(self, schedules: Schedules) -> None:
        """The TaskQueue is gone, and with it what it listed. Raises RedisUnavailable or RedisRefused."""
        if self._declared:
            await schedules.register(TASKQUEUE, self._version, [], hold=0)  # the next one of its name counts from 1
            self._declared = []
