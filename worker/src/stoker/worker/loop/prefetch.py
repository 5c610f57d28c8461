"""Prefetch: deliveries taken while all slots are busy, so that a slot that falls free is filled at once.

Only where tasks are short and the queue is long: a prefetched task waits for this worker alone, while another may be idle.
"""

from collections import deque
from collections.abc import Iterator

from msgspec.structs import replace

from stoker.queue.records import Delivery

SHARE = 2
"""One delivery ahead for so many slots."""
SHORT = 0.05
"""Seconds that tasks may take, on average, for any to be taken ahead."""
PATIENCE = 1.0
"""Seconds after which a delivery goes back into its line: the tasks before it are not short after all."""
_WEIGHT = 0.05
"""Of the newest run in the average: about the last forty count."""


class Prefetch:
    """Deliveries without a slot, the first to be started first. Knows no clock: times are seconds of the caller's."""

    def __init__(self, slots: int) -> None:
        self._most = slots // SHARE
        self._waiting: deque[tuple[float, Delivery]] = deque()
        self._average: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def limit(self) -> int:
        """How many may wait here now."""
        return self._most if self._average is not None and self._average <= SHORT else 0

    def learn(self, seconds: float) -> None:
        """A run has taken so long."""
        self._average = seconds if self._average is None else self._average + _WEIGHT * (seconds - self._average)

    def keep(self, delivery: Delivery, now: float) -> None:
        """Let it wait for a slot."""
        self._waiting.append((now, delivery))

    def next(self, now: float) -> Delivery:
        """Whose turn it is, with the time that it has waited here. Raises IndexError where nobody waits."""
        since, delivery = self._waiting.popleft()
        return replace(delivery, waited=delivery.waited + now - since)

    @property
    def gives_up_at(self) -> float | None:
        """When the first will have waited too long; None where nobody waits."""
        return self._waiting[0][0] + PATIENCE if self._waiting else None

    def out_of_patience(self, now: float) -> Iterator[Delivery]:
        """Those that have waited too long leave, and no others come before runs have become short again."""
        while self._waiting and self._waiting[0][0] + PATIENCE <= now:
            self._average = max(self._average or 0.0, PATIENCE)
            yield self._waiting.popleft()[1]

    def leave(self, fence: str) -> Delivery | None:
        """The one of this fence leaves; None where it is not here."""
        for each in self._waiting:
            if each[1].fence == fence:
                self._waiting.remove(each)
                return each[1]
        return None

    def everyone(self) -> Iterator[Delivery]:
        """All leave."""
        while self._waiting:
            yield self._waiting.popleft()[1]


class InFlight:
    """All that is asked for. Only one asks for a suspect at a time: two might bring two."""

    def __init__(self) -> None:
        self.asked = 0
        self.suspect_asked_for = False

    def book(self, tasks: int, *, suspect: bool) -> "Reservation":
        """Ask for room, and for a suspect or not, until the booking is over."""
        self.asked += tasks
        self.suspect_asked_for = self.suspect_asked_for or suspect
        return Reservation(self, tasks, suspect=suspect)


class Reservation:
    """One of those that ask."""

    def __init__(self, room: InFlight, tasks: int, *, suspect: bool) -> None:
        self.tasks = tasks
        self.suspect = suspect
        self._room: InFlight | None = room

    def over(self) -> None:
        """The answer is here, or will not come. Said twice, it counts once."""
        if room := self._room:
            self._room = None
            room.asked -= self.tasks
            room.suspect_asked_for = room.suspect_asked_for and not self.suspect
