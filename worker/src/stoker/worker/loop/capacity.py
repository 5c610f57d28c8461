"""Capacity of a worker: which deliveries it holds, and how many more it may ask for.

Three things count against the slots: tasks that run, deliveries prefetched for the next free slot, and what fetches in flight may
still bring. Of suspects (tasks that were lost more than once) a worker holds one at a time, and one on its last life alone.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from stoker.queue.broker import FETCHED_AT_ONCE
from stoker.queue.records import Delivery, Holds
from stoker.queue.settlements import Settlement
from stoker.rules.losses import is_suspect
from stoker.rules.settle import Release, Transition
from stoker.worker.loop.prefetch import Prefetch
from stoker.worker.loop.shutdown import Shutdown
from stoker.worker.loop.slot_pool import Seat
from stoker.worker.loop.solitude import Solitude

FETCHES_AT_ONCE = 2
"""Each fetch asks for its share of the room: while one brings tasks, those of the other run."""
FETCH_AT_LEAST = 32
"""Tasks for which a second round trip pays."""


class Capacity:
    """Holds each delivery until Redis has taken its settlement. Belongs to one event loop.

    `start` is called with every delivery that gets a slot, `busy` returns how many slots are taken, and `give_back` is called
    with the settlements of deliveries that are not started.
    """

    def __init__(
        self,
        slots: int,
        shutdown: Shutdown,
        start: Callable[[Delivery], None],
        busy: Callable[[], int],
        give_back: Callable[[list[Settlement]], None],
        solitude: Solitude,
    ) -> None:
        self.slots = slots
        # Fence -> task id. Written by `receive` and `settled`; the heartbeat's thread copies it.
        self.held: dict[str, str] = {}
        # Whether the last fetch brought all that it asked for. Written by Turns.
        self.plenty = False
        # Fences. Written by `receive` and `settled`, read by WorkWaiter.
        self.suspects: set[str] = set()
        self._in_flight = InFlight()
        self._prefetch = Prefetch(slots)
        # Called after every run with its seconds.
        self.observe_run = self._prefetch.observe
        self._expiry: asyncio.TimerHandle | None = None
        self._shutdown = shutdown
        self._start = start
        self._busy = busy
        self._give_back = give_back
        self._solitude = solitude
        # Among the queues of the process; None where there is one.
        self.seat: Seat | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is held, and no fetch is in flight."""
        return not self.held and not self._in_flight.asked

    @property
    def clearing(self) -> bool:
        """Whether a task on its last life has the process to itself, or is about to."""
        return self._solitude.wanted

    @property
    def free(self) -> int:
        """Slots with nothing running, prefetched or on its way to them. Below 0 while more is held than there are slots."""
        if not self.admitted:
            return 0
        return self.slots - self.used if self.seat is None else self.seat.offer()

    @property
    def admitted(self) -> bool:
        """Whether it may fetch at all: it does not stop, and no other partition clears for a task on its last life."""
        return self._shutdown.taking and self._solitude.admits(self)

    @property
    def used(self) -> int:
        """Slots with a task running, prefetched or asked for."""
        return self._busy() + len(self._prefetch) + self._in_flight.asked

    @property
    def running(self) -> int:
        """Tasks that run."""
        return self._busy()

    @property
    def asked(self) -> int:
        """Tasks that fetches in flight ask for."""
        return self._in_flight.asked

    @property
    def room(self) -> int:
        """Deliveries that may be asked for: the free slots, and those that may be prefetched."""
        if self.seat:
            return self.seat.offer(self._prefetch_limit) if self.admitted else 0
        return max(0, self.free + self._prefetch_limit)

    @property
    def _full(self) -> bool:
        return self._busy() >= self.slots or (self.seat is not None and self.seat.full)

    def fetch_size(self, room: int) -> int:
        """How many of these the next turn asks for."""
        return min(room, FETCHED_AT_ONCE, max(FETCH_AT_LEAST, (self.slots + self._prefetch_limit) // FETCHES_AT_ONCE))

    @property
    def _prefetch_limit(self) -> int:
        return self._prefetch.limit if self.plenty and self._shutdown.taking and not self._solitude.wanted else 0

    def holds(self, settling: Sequence[Settlement] = ()) -> Holds:
        """What is held beyond these settlements."""
        if self.suspects and not self.suspects <= {each.fence for each in settling}:
            return Holds.SUSPECT
        return Holds.TASKS if len(self.held) > len(settling) else Holds.NOTHING

    def reserve(self, tasks: int, settling: Sequence[Settlement] = ()) -> "Reservation":
        """Room for a fetch of `tasks`, which carries these settlements. It may bring a suspect if no other fetch does."""
        if self._solitude.exclusive(self):
            return self._in_flight.reserve(tasks, Holds.NOTHING)
        holds = max(Holds.PERHAPS, self.holds(settling))
        if not tasks or self._in_flight.suspect_asked_for or self._solitude.rests:
            holds = Holds.SUSPECT
        return self._in_flight.reserve(tasks, holds)

    def receive(self, deliveries: Iterable[Delivery]) -> None:
        """Start what a fetch has brought, as far as there are slots, and prefetch the rest."""
        for delivery in deliveries:
            self.held[delivery.fence] = delivery.id
            if is_suspect(delivery.losses):
                self.suspects.add(delivery.fence)
            if delivery.last_life:
                self._solitude.run(self, delivery.fence)
            if self._prefetch or self._full:
                self._prefetch.add(delivery, _now())
            else:
                self._start(delivery)
        self.fill()

    def fill(self) -> None:
        """Start prefetched deliveries in the slots that are free."""
        if not self._prefetch:
            return
        while self._prefetch and not self._full:
            self._start(self._prefetch.next(_now()))
        if not self._shutdown.taking:
            self.give_back_prefetched()
        if self._prefetch and self._expiry is None:
            self._schedule_expiry()

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """Redis has taken these: their deliveries are no longer held."""
        for each in settlements:
            self.held.pop(each.fence, None)
            self.suspects.discard(each.fence)
            if self._solitude.wanted:
                self._solitude.ended(each.fence)

    def answered(self, *, clear: bool) -> None:
        """After `receive`: whether the fetch asks to clear for a task on its last life."""
        if clear:
            self._solitude.clear(self)
        else:
            self._solitude.over(self)

    def give_up(self, fence: str, transition: Transition) -> None:
        """End a prefetched delivery without a run. Other fences are left alone."""
        if delivery := self._prefetch.remove(fence):
            self._give_back(_settlements([delivery], transition))

    def give_back_prefetched(self) -> None:
        """Give back all that has not started."""
        self._give_back(_settlements(self._prefetch.clear()))

    def _schedule_expiry(self) -> None:
        at = self._prefetch.expires_at
        self._expiry = None if at is None else asyncio.get_running_loop().call_at(at, self._give_back_expired)

    def _give_back_expired(self) -> None:
        self._give_back(_settlements(self._prefetch.expired(_now())))
        self._schedule_expiry()


class InFlight:
    """What all fetches in flight ask for together. One at a time asks for a suspect: two could bring two."""

    def __init__(self) -> None:
        self.asked = 0
        self.suspect_asked_for = False

    def reserve(self, tasks: int, holds: Holds) -> "Reservation":
        """Count this fetch in until its reservation is over."""
        self.asked += tasks
        reservation = Reservation(self, tasks, holds)
        self.suspect_asked_for = self.suspect_asked_for or reservation.suspect
        return reservation


class Reservation:
    """What one fetch asks for."""

    def __init__(self, in_flight: InFlight, tasks: int, holds: Holds) -> None:
        self.tasks = tasks
        self.holds = holds
        self._in_flight: InFlight | None = in_flight

    @property
    def suspect(self) -> bool:
        """Whether it may bring a suspect."""
        return self.tasks > 0 and self.holds < Holds.SUSPECT

    def over(self) -> None:
        """The answer is here, or will not come. Idempotent."""
        if in_flight := self._in_flight:
            self._in_flight = None
            in_flight.asked -= self.tasks
            in_flight.suspect_asked_for = in_flight.suspect_asked_for and not self.suspect


def _settlements(deliveries: Iterable[Delivery], transition: Transition = Release()) -> list[Settlement]:
    return [Settlement(each.id, each.fence, transition) for each in deliveries]


def _now() -> float:
    return asyncio.get_running_loop().time()
