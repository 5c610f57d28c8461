"""Timekeeper: declares the schedules of one TaskQueue manifest and starts due runs, in the operator and `stoker up`.

So the first run of a schedule does not depend on a running worker, and can scale a queue up from zero.
"""

import time
from collections.abc import Callable, Sequence

from stoker.queue.records import QueueStats
from stoker.queue.schedules import HOLD, TASKQUEUE, Schedules
from stoker.rules.schedule import Definition

RENEW_AFTER = HOLD / 4


class Timekeeper:
    """For one TaskQueue. Belongs to one event loop. `monotonic` returns seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._declared: Sequence[Definition] | None = None
        self._at = 0.0
        self._version = 0

    async def keep(
        self, schedules: Schedules, definitions: Sequence[Definition] | None, version: int, stats: QueueStats | None
    ) -> None:
        """Declare these schedules if they have changed or the declaration is due for renewal; start runs that `stats` shows as due.

        None where it is not known what to declare: the schedules that are there stay.

        Raises RedisUnavailable or RedisRefused.
        """
        now = self._monotonic()
        if definitions is not None and (self._declared != definitions or now - self._at >= RENEW_AFTER):
            await schedules.register(TASKQUEUE, version, definitions)
            self._declared, self._at, self._version = list(definitions), now, version
        if stats is not None and stats.next_run is not None and stats.next_run <= 0:
            await schedules.look()

    async def forget(self, schedules: Schedules) -> None:
        """Remove the schedules of a deleted TaskQueue. Raises RedisUnavailable or RedisRefused."""
        if self._declared:
            await schedules.register(TASKQUEUE, self._version, [], hold=0)  # a new TaskQueue of this name starts at version 1
            self._declared = []
