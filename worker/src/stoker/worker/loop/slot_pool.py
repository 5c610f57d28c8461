"""SlotPool: the slots of a worker that serves several queues, offered to those that have work (rules/shares.py)."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from stoker.rules.shares import Claim, split


class Consumer(Protocol):
    """The capacity of one partition of a queue. `used`: slots with a task running, prefetched or asked for."""

    @property
    def used(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def asked(self) -> int: ...


class Seat:
    """One partition in the pool. `passed` is its virtual time: tasks taken, over its weight."""

    def __init__(
        self, pool: "SlotPool", weight: float, consumer: Consumer, wants: Callable[[], bool], stir: Callable[[], None]
    ) -> None:
        self.passed = 0.0
        self.active = False
        self.weight = weight
        self.consumer = consumer
        self.wants = wants
        self.stir = stir
        self._pool = pool

    @property
    def claim(self) -> Claim:
        """With what it has asked for, as if it were here."""
        return Claim(self.passed + self.consumer.asked / self.weight, self.weight)

    @property
    def full(self) -> bool:
        """Whether all slots of the process run a task."""
        return self._pool.running >= self._pool.slots

    def took(self, tasks: int) -> None:
        """A fetch has brought so many."""
        self.passed += tasks / self.weight

    def offer(self, more: int = 0) -> int:
        """For how many tasks it may ask; `more`: prefetched ones, beyond the free slots."""
        return self._pool.offer(self, more)

    def freed(self) -> None:
        """It has left slots, or room, to the others."""
        self._pool.stir(self)


class PoolShare(NamedTuple):
    """The part of a partition in the pool of its process."""

    pool: "SlotPool"
    weight: float


class SlotPool:
    """Shared by the queues of a process. Belongs to one event loop. `strict`: the first queue that has work goes first."""

    def __init__(self, slots: int, *, strict: bool = False) -> None:
        self.slots = slots
        self._strict = strict
        self._seats: list[Seat] = []

    def join(self, weight: float, consumer: Consumer, wants: Callable[[], bool], stir: Callable[[], None]) -> Seat:
        """`wants`: whether it would take tasks now. `stir` is called when there may be slots for it. Order matters if `strict`."""
        seat = Seat(self, weight, consumer, wants, stir)
        self._seats.append(seat)
        return seat

    @property
    def running(self) -> int:
        """Tasks of all queues that run."""
        return sum(seat.consumer.running for seat in self._seats)

    def offer(self, asking: Seat, more: int) -> int:
        """How many of the slots that are free this one may fill, beside those that want some too."""
        free = self.slots + more - sum(seat.consumer.used for seat in self._seats)
        if free <= 0:
            return 0
        wanting = [seat for seat in self._seats if seat is asking or seat.wants()]
        self._begin(wanting)
        return split(free, [seat.claim for seat in wanting], strict=self._strict)[wanting.index(asking)]

    def stir(self, by: Seat) -> None:
        """Have the others look."""
        for seat in self._seats:
            if seat is not by:
                seat.stir()

    def _begin(self, wanting: list[Seat]) -> None:
        # One that had nothing to do has saved nothing up: it begins where the others are.
        now = min((seat.passed for seat in wanting if seat.active), default=0.0)
        for seat in self._seats:
            wants = seat in wanting
            if wants and not seat.active:
                seat.passed = max(seat.passed, now)
            seat.active = wants
