"""Prefetch: deliveries taken while all slots are busy, so that a slot that falls free is filled at once.

Only where tasks are short and the queue is long: a prefetched task waits for this worker alone, while another may be idle.
"""

from collections import deque
from collections.abc import Iterator

from msgspec.structs import replace

from stoker.queue.records import Delivery

SLOTS_PER_PREFETCH = 2
"""One delivery may be prefetched for each two slots."""
SHORT = 0.05
"""Average seconds of a run, up to which deliveries are prefetched."""
MAX_WAIT = 1.0
"""Seconds after which a prefetched delivery is given back: the runs before it are not short after all."""
_WEIGHT = 0.05
"""Weight of the newest run in the moving average: about the last forty count."""


class Prefetch:
    """Deliveries without a slot, first in, first out. Knows no clock: the caller passes its time in seconds."""

    def __init__(self, slots: int) -> None:
        self._max = slots // SLOTS_PER_PREFETCH
        self._waiting: deque[tuple[float, Delivery]] = deque()
        self._average: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def limit(self) -> int:
        """How many may be held now: none while runs are long, or before the first has ended."""
        return self._max if self._average is not None and self._average <= SHORT else 0

    def observe(self, seconds: float) -> None:
        """Add a run's duration to the average."""
        self._average = seconds if self._average is None else self._average + _WEIGHT * (seconds - self._average)

    def add(self, delivery: Delivery, now: float) -> None:
        """Hold it until a slot is free."""
        self._waiting.append((now, delivery))

    def next(self, now: float) -> Delivery:
        """Remove the first, with its time here added to `waited`. Raises IndexError when empty."""
        since, delivery = self._waiting.popleft()
        return replace(delivery, waited=delivery.waited + now - since)

    @property
    def expires_at(self) -> float | None:
        """When the first will have waited too long; None when empty."""
        return self._waiting[0][0] + MAX_WAIT if self._waiting else None

    def expired(self, now: float) -> Iterator[Delivery]:
        """Remove those that have waited too long. None are prefetched after that until runs have become short again."""
        while self._waiting and self._waiting[0][0] + MAX_WAIT <= now:
            self._average = max(self._average or 0.0, MAX_WAIT)
            yield self._waiting.popleft()[1]

    def remove(self, fence: str) -> Delivery | None:
        """Remove the delivery with this fence; None when it is not held."""
        for each in self._waiting:
            if each[1].fence == fence:
                self._waiting.remove(each)
                return each[1]
        return None

    def clear(self) -> Iterator[Delivery]:
        """Remove all."""
        while self._waiting:
            yield self._waiting.popleft()[1]
