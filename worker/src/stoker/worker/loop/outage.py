"""A Redis that does not answer: one line in the log, pauses that grow, and a line when it is over."""

import asyncio
import logging
import random

from stoker.errors import StokerError
from stoker.rules.retry import Retry, backoff

RECONNECT = Retry(initial_delay=0.1, multiplier=2, max_delay=5.0)
FLUSH_LIMIT = 5.0
"""Seconds for which a worker in a hurry waits for another try."""
_log = logging.getLogger("stoker.worker")


class Outage:
    """How many calls have failed since the last that did not; true while there are any."""

    def __init__(self) -> None:
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    async def wait_out(self, error: Exception, *, hurried: bool) -> None:
        """A call has failed: pause before the next."""
        self._count += 1
        if not isinstance(error, StokerError):
            _log.critical("a bug in the worker: trying again", exc_info=error)
        elif self._count == 1:
            _log.warning("Redis is in trouble: running tasks go on, no new ones are taken", extra={"error": str(error)})
        pause = backoff(RECONNECT, self._count, lambda: random.uniform(0.5, 1))
        await asyncio.sleep(min(pause, FLUSH_LIMIT) if hurried else pause)

    def over(self) -> None:
        """A call has succeeded."""
        if self._count:
            _log.info("Redis answers again", extra={"failed_calls": self._count})
            self._count = 0
