"""Outages of Redis: one warning when calls begin to fail, exponential pauses between retries, one line when they succeed again."""

import asyncio
import logging
import math
import random
import time

from stoker.errors import StokerError
from stoker.rules.retry import Retry, backoff

RECONNECT = Retry(initial_delay=0.1, multiplier=2, max_delay=5.0)
ABORT_PAUSE = 5.0
"""Longest pause in seconds of a worker that aborts."""
RECOVERY = 2.0
"""Seconds after an outage in which living workers renew leases that have expired meanwhile: they retry heartbeats every second."""
_log = logging.getLogger("stoker.worker")


class Recovery:
    """Counts the calls that failed since the last success."""

    def __init__(self) -> None:
        self._count = 0
        self._over_at = -math.inf

    @property
    def recent(self) -> bool:
        """Whether calls fail, or did until a moment ago: other workers may not have renewed their leases since."""
        return self._count > 0 or time.monotonic() - self._over_at < RECOVERY

    def failed(self) -> None:
        """A call has failed."""
        self._count += 1

    def over(self) -> None:
        """A call has succeeded."""
        if self._count:
            self._count = 0
            self._over_at = time.monotonic()


class Outage(Recovery):
    """An outage as the turns of a worker see it; true while calls fail."""

    def __bool__(self) -> bool:
        return self._count > 0

    async def wait_out(self, error: Exception, *, aborting: bool) -> None:
        """Log a failed call, and pause before the next."""
        self.failed()
        if not isinstance(error, StokerError):
            _log.critical("a bug in the worker: trying again", exc_info=error)
        elif self._count == 1:
            _log.warning("Redis is in trouble: running tasks go on, no new ones are taken", extra={"error": str(error)})
        pause = backoff(RECONNECT, self._count, lambda: random.uniform(0.5, 1))
        await asyncio.sleep(min(pause, ABORT_PAUSE) if aborting else pause)

    def over(self) -> None:
        """A call has succeeded."""
        if self._count:
            _log.info("Redis answers again", extra={"failed_calls": self._count})
        super().over()
