"""The worker's conversation with Redis: in one round trip, a turn settles all that has ended and takes what there is room for.

While a turn is under way more tasks end, so batches grow with the load by themselves, and an idle worker settles at
once. Under load a second turn sets out before the first is back: Redis and the worker then work at the same time.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from stoker.errors import StokerError
from stoker.queue.broker import FETCHED_AT_ONCE, Broker
from stoker.queue.records import Delivery, Turn
from stoker.queue.settlements import Settlement
from stoker.rules.settle import Release, Transition
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop.outage import Outage
from stoker.worker.loop.prefetch import InFlight, Prefetch, Reservation
from stoker.worker.loop.stage import ShutdownStage
from stoker.worker.system.aio import end

LONGEST_WAIT = 5.0
OTHERS_FIRST = 0.2
"""Seconds for which a worker that holds a suspect leaves what is new to others."""
SHORTEST_WAIT = 0.001
CALLED_OFF_WITHIN, ON_ITS_WAY = 1.0, 0.1
"""Seconds for Redis to hear that a wait for work is over, and for what it had already sent to arrive."""
UNDER_WAY_AT_ONCE = 2
WORTH_ANOTHER = 32
"""So many ended tasks send a second turn on its way."""
_log = logging.getLogger("stoker.worker")


class Turns:
    """Belongs to one event loop. `start` is given every delivery, `busy` says how many of them run still."""

    def __init__(
        self,
        worker: str,
        slots: int,
        broker: Broker,
        metrics: WorkerMetrics,
        start: Callable[[Delivery], None],
        busy: Callable[[], int],
    ) -> None:
        self.back_in: float | None = None  # seconds after which `once` will find more
        self.held: dict[str, str] = {}  # fence -> id, until Redis has taken the settlement
        self.to_relay = asyncio.Event()  # set when something has come into the outbox, perhaps
        self._worker = worker
        self._slots = slots
        self._broker = broker
        self._metrics = metrics
        self._start = start
        self._busy = busy
        self._ended: list[Settlement] = []
        self._ahead = Prefetch(slots)
        self._suspects: set[str] = set()
        self._stir = asyncio.Event()
        self._look = True  # whether there may be something to fetch
        self._plenty = False  # whether the last fetch brought all it had room for
        self._has_room = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._room = InFlight()  # that turns under way may still fill
        self._alarm: asyncio.TimerHandle | None = None
        self._impatience: asyncio.TimerHandle | None = None
        self._waits: asyncio.Task[None] | None = None  # for work, and will bring it
        self._calling_off: asyncio.Task[None] | None = None
        self._troubles = Outage()
        self._stage = ShutdownStage.TAKING

    @property
    def leaving(self) -> bool:
        """Whether it was told to end."""
        return self._stage >= ShutdownStage.LEAVING

    @property
    def resting(self) -> bool:
        """Whether no more is taken."""
        return not self._taking

    @property
    def empty(self) -> bool:
        """Whether nothing runs, and Redis has taken all outcomes."""
        return not self.held and not self._under_way

    @property
    def trouble(self) -> str | None:
        """Why no tasks are taken; None while they are."""
        if not self._taking:
            return "draining"
        return "Redis does not answer" if self._troubles else None

    def settle(self, settlement: Settlement) -> None:
        """Let the next turn carry it."""
        self._ahead.learn(settlement.busy)
        self._ended.append(settlement)
        self._stir.set()

    def give_up(self, fence: str, transition: Transition) -> None:
        """End a delivery that has not been started yet; no other is meant."""
        if delivery := self._ahead.leave(fence):
            self._end_unstarted([delivery], transition)

    def rest(self) -> None:
        """Take no more."""
        self._advance(ShutdownStage.RESTING)

    def drain(self) -> None:
        """Take no more; `run` ends when all that was taken is settled."""
        self._advance(ShutdownStage.LEAVING)

    def hurry(self) -> None:
        """Do not wait for a Redis that is away: what cannot be settled comes back when its lease ends."""
        self._advance(ShutdownStage.HURRYING)

    async def run(self) -> None:
        """Make turns until drained."""
        waiting = asyncio.create_task(self._wake_when_work_comes())
        self._stir.set()
        try:
            while not self.leaving:
                await self._step()
            await self._stop_waiting(waiting)
            while (self._busy() or self._ended or self._under_way) and not (self._hurried and self._troubles):
                await self._step()
        finally:
            await end(waiting, *self._under_way)

    async def once(self) -> int:
        """One turn now, for whoever steps by hand instead of letting it `run`. Returns how many were settled and taken.

        Raises what the broker raises; what has ended is kept then.
        """
        settlements, room = self._ended.copy(), self._slots - self._busy()
        suspected = not self._suspects <= {each.fence for each in settlements}
        turn = await self._broker.turn(settlements, room, self._worker, holds_suspect=suspected)
        del self._ended[: len(settlements)]
        self._take(turn, settlements, room)
        self.back_in = turn.back_in
        return len(settlements) + len(turn.deliveries)

    @property
    def _taking(self) -> bool:
        return self._stage == ShutdownStage.TAKING

    @property
    def _hurried(self) -> bool:
        return self._stage >= ShutdownStage.HURRYING

    def _advance(self, stage: ShutdownStage) -> None:
        if self._taking and self._waits:
            self._calling_off = asyncio.create_task(self._call_off(self._waits))
        self._stage = max(self._stage, stage)
        self._end_unstarted(self._ahead.everyone())

    async def _step(self) -> None:
        await self._stir.wait()
        self._stir.clear()
        self._fill()
        self._go()

    def _go(self) -> None:
        while self._due():
            self._set_out()

    def _due(self) -> bool:
        looking = self._look and (self._free > 0 or self._places >= WORTH_ANOTHER)
        if self._under_way:
            room_for_one = len(self._under_way) < UNDER_WAY_AT_ONCE and not self._troubles
            return room_for_one and (len(self._ended) >= WORTH_ANOTHER or (self._plenty and looking))
        return bool(self._ended) or looking

    @property
    def _free(self) -> int:
        """Slots that nothing runs in, and nobody who is here or may come with a turn under way."""
        return self._slots - self._busy() - len(self._ahead) - self._room.asked if self._taking else 0

    @property
    def _most_ahead(self) -> int:
        """How many may wait here for a slot: some, while the line is long."""
        return self._ahead.limit if self._taking and self._plenty else 0

    @property
    def _places(self) -> int:
        """Free slots, and places of those who may wait for one."""
        return max(0, self._free + self._most_ahead)

    def _set_out(self) -> None:
        settlements, self._ended = self._ended, []
        free = self._places
        # A share of the slots: while one turn's tasks run, the other's are fetched.
        room = min(free, FETCHED_AT_ONCE, max(WORTH_ANOTHER, (self._slots + self._most_ahead) // UNDER_WAY_AT_ONCE))
        suspect = room > 0 and not self._room.suspect_asked_for and self._suspects <= {each.fence for each in settlements}
        self._look = self._plenty and free > room
        turn = asyncio.create_task(self._turn(settlements, self._room.book(room, suspect=suspect)))
        self._under_way.add(turn)
        turn.add_done_callback(self._landed)

    def _landed(self, turn: asyncio.Task[None]) -> None:
        self._under_way.discard(turn)
        if not turn.cancelled() and (error := turn.exception()):
            _log.critical("a bug in the worker", exc_info=error)
        self._stir.set()

    async def _turn(self, settlements: list[Settlement], booking: Reservation) -> None:
        try:
            turn = await self._broker.turn(settlements, booking.tasks, self._worker, holds_suspect=not booking.suspect)
        except Exception as error:
            # Whatever it was: outcomes that were dropped here would keep their leases for as long as this worker lives.
            self._ended = settlements + self._ended
            self._look = True
            await self._troubles.wait_out(error, hurried=self._hurried)
        else:
            self._troubles.over()
            self._take(turn, settlements, booking.tasks)
        finally:
            booking.over()
            self._under_way -= {asyncio.current_task()}
        # Now, not when the loop comes round: the next answer may wait there, and Redis would wait for its tasks.
        self._go()

    def _take(self, turn: Turn, settlements: list[Settlement], room: int) -> None:
        for settlement in settlements:
            self.held.pop(settlement.fence, None)
            self._suspects.discard(settlement.fence)
        if turn.refused:
            self._metrics.stale.inc(len(turn.refused))
            _log.warning("refused: the lease had gone to another", extra={"task_ids": [s.id for s in turn.refused]})
        self._receive(turn.deliveries)
        self._metrics.slots(self._busy(), self._broker.keys.queue)
        if turn.back_in is not None:
            self._look_again_in(turn.back_in)
        if turn.relay:
            self.to_relay.set()
        if room > 0:
            self._plenty = len(turn.deliveries) == room
        if self._plenty:
            self._look = True
        elif room > 0 and self._taking:
            self._has_room.set()

    def _receive(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.held[delivery.fence] = delivery.id
            if delivery.losses:
                self._suspects.add(delivery.fence)
            if self._ahead or self._busy() >= self._slots:
                self._ahead.keep(delivery, self._now())
            else:
                self._start(delivery)
        self._fill()

    def _fill(self) -> None:
        """Start what is here, as far as there are slots; the rest waits for those that run."""
        while self._ahead and self._busy() < self._slots:
            self._start(self._ahead.next(self._now()))
        if self._ahead and not self._taking:
            self._end_unstarted(self._ahead.everyone())
        if self._ahead and self._impatience is None:
            self._wait_for_patience()

    def _wait_for_patience(self) -> None:
        at = self._ahead.gives_up_at
        self._impatience = None if at is None else asyncio.get_running_loop().call_at(at, self._lose_patience)

    def _lose_patience(self) -> None:
        self._end_unstarted(self._ahead.out_of_patience(self._now()))
        self._wait_for_patience()

    def _end_unstarted(self, deliveries: Iterable[Delivery], transition: Transition = Release()) -> None:
        self._ended += [Settlement(each.id, each.fence, transition) for each in deliveries]
        self._stir.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _wake_when_work_comes(self) -> None:
        """Block in Redis while there is room and nothing to do."""
        while True:
            await self._has_room.wait()
            self._has_room.clear()
            if self._suspects:
                # What woke us may have been another suspect, which we may not hold beside ours: let those who wait have it first.
                await self._pass_on()
                await asyncio.sleep(OTHERS_FIRST)
            # A share of the slots again: the others are for what ends or falls due meanwhile.
            room = min(self._free // UNDER_WAY_AT_ONCE, FETCHED_AT_ONCE)
            try:
                if room > 0 and not self._suspects:
                    await self._wait_with(room)
                else:
                    await self._broker.wait_for_work(LONGEST_WAIT)
                    self._look_now()
            except Exception as error:
                await self._troubles.wait_out(error, hurried=self._hurried)
                self._look_now()
            if not self._taking:
                await self._pass_on()

    async def _wait_with(self, room: int) -> None:
        """Block in the same way; what there is comes with the wake-up: a worker that waits has it one round trip earlier."""
        booking = self._room.book(room, suspect=not self._room.suspect_asked_for)
        self._waits = waits = asyncio.create_task(self._take_when_woken(booking))
        try:
            await asyncio.wait({waits})
        finally:
            self._waits = None
            await end(waits)
            booking.over()
        if not waits.cancelled():  # it was called off
            waits.result()

    async def _take_when_woken(self, booking: Reservation) -> None:
        turn = await self._broker.wait_and_take(booking.tasks, self._worker, LONGEST_WAIT, holds_suspect=not booking.suspect)
        booking.over()
        self._troubles.over()
        if turn:
            self._take(turn, [], booking.tasks)
        # It may have been a suspect that woke us, where we had not asked for one.
        self._look = self._look or not turn or not (turn.deliveries or booking.suspect)
        self._go()

    async def _call_off(self, waits: asyncio.Task[None]) -> None:
        """Redis is told before the wait is given up: tasks that come with a wake-up that nobody hears would be lost for a lease."""
        with suppress(StokerError, TimeoutError):
            async with asyncio.timeout(CALLED_OFF_WITHIN):
                await self._broker.rest(self._worker)
        await asyncio.wait({waits}, timeout=ON_ITS_WAY)
        waits.cancel()

    async def _stop_waiting(self, waiting: asyncio.Task[None]) -> None:
        if self._calling_off:
            await asyncio.wait({self._calling_off})
        await end(waiting)
        await self._pass_on()

    async def _pass_on(self) -> None:
        # We may just have taken the only wake token, for work that is not ours any more.
        with suppress(StokerError):
            await self._broker.pass_on()

    def _look_now(self) -> None:
        self._look = True
        self._go()

    def _look_again_in(self, seconds: float) -> None:
        # A clock of its own: the wait in Redis may have begun before anybody knew of this task.
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(seconds, SHORTEST_WAIT), self._look_now)
