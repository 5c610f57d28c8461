"""The last check before a write: a leader that could not renew its Lease in time writes nothing more."""

import time
from collections.abc import Callable

from stoker.errors import StokerError

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds. Counts the time for which the process, or the machine, was frozen."""
    return time.clock_gettime(_CLOCK)


class NotLeader(StokerError):
    """This operator may not write: another may lead by now. It ends, or waits until it leads."""


class WriteGuard:
    """Whether this process may write now. Open from the start: without an election it stays so."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._until = float("inf")

    def allow(self, until: float) -> None:
        """Writes are allowed until this moment of the clock."""
        self._until = until

    def close(self) -> None:
        """No more writes."""
        self._until = float("-inf")

    def left(self) -> float:
        """Seconds for which writes are allowed still. Raises NotLeader if they are not."""
        if (left := self._until - self._clock()) <= 0:
            raise NotLeader("no write: this operator does not lead, or could not renew its Lease in time")
        return left
