"""Whether the operator is alive: how long ago each loop finished a round, and how late the event loop is.

A bare 200 would go on after a loop has died; an outage of Redis or of the API server is nothing a restart mends,
so a round that failed counts as finished.
"""

import asyncio
import time
from collections.abc import Callable

LAG_LIMIT = 10.0
_BEAT = 0.5


class Health:
    """Belongs to one event loop; `limits` says how old (in seconds) the last round of each loop may be."""

    def __init__(self, limits: dict[str, float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._finished = dict.fromkeys(limits, monotonic())
        self.lag = 0.0
        self.ready = False

    def finished(self, loop: str) -> None:
        """A loop has come round."""
        self._finished[loop] = self._monotonic()

    def troubles(self) -> list[str]:
        """What is wrong, in words; nothing where all is well."""
        now = self._monotonic()
        ages = {loop: now - at for loop, at in self._finished.items()}
        late = [
            f"{loop}: last round {ages[loop]:.1f}s ago, limit {limit:g}s"
            for loop, limit in self._limits.items()
            if ages[loop] > limit
        ]
        return [*late, f"event loop {self.lag:.1f}s late, limit {LAG_LIMIT:g}s"] if self.lag > LAG_LIMIT else late

    async def watch_lag(self) -> None:
        """Measure, for ever, how late this event loop wakes its sleepers."""
        while True:
            due = self._monotonic() + _BEAT
            await asyncio.sleep(_BEAT)
            self.lag = max(0.0, self._monotonic() - due)
