"""Liveness of the operator: the age of each loop's last round, what is stuck, and the lag of the event loop.

A bare 200 would outlive a dead loop. A round that failed counts as finished: a restart repairs neither Redis nor the API server.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

MAX_LAG = 10.0
"""Seconds."""
_PROBE_SECONDS = 0.5


class Health:
    """Belongs to one event loop. `limits`: the maximum age of each loop's last round, in seconds. `stuck`: what says itself for how
    many seconds it has not moved, and the most that is allowed."""

    def __init__(
        self,
        limits: Mapping[str, float],
        stuck: Mapping[str, tuple[Callable[[], float], float]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._stuck = stuck or {}
        self._monotonic = monotonic
        self._finished = dict.fromkeys(limits, monotonic())
        self.lag = 0.0
        self.ready = False

    def expect(self, limits: Mapping[str, float], stuck: Mapping[str, tuple[Callable[[], float], float]] | None = None) -> None:
        """From now on these loops run, and no others."""
        self._limits, self._stuck = limits, stuck or {}
        self._finished = dict.fromkeys(limits, self._monotonic())

    def set_ready(self) -> None:
        """The watches have begun, so changes are seen."""
        self.ready = True

    def finished(self, loop: str) -> None:
        """A loop has finished a round."""
        if loop in self._finished:
            self._finished[loop] = self._monotonic()

    def problems(self) -> list[str]:
        """One line for each loop that is late; empty if the operator is alive."""
        now = self._monotonic()
        ages = {loop: now - at for loop, at in self._finished.items()}
        late = [
            f"{loop}: last round {ages[loop]:.1f}s ago, limit {limit:g}s"
            for loop, limit in self._limits.items()
            if ages[loop] > limit
        ]
        for name, (seconds, limit) in self._stuck.items():
            if (found := seconds()) > limit:
                late.append(f"{name}: {found:.1f}s, limit {limit:g}s")
        return [*late, f"event loop lag {self.lag:.1f}s, limit {MAX_LAG:g}s"] if self.lag > MAX_LAG else late

    async def watch_lag(self) -> None:
        """Measure how late the event loop wakes a sleeper, until cancelled."""
        while True:
            due = self._monotonic() + _PROBE_SECONDS
            await asyncio.sleep(_PROBE_SECONDS)
            self.lag = max(0.0, self._monotonic() - due)
