"""Turns, a worker's round trips to Redis: one turn settles all that has ended and fetches what there is room for.

While a turn is in flight more tasks end, so batches grow with the load, and an idle worker settles at once. Under load a second
turn sets out before the first is back: Redis and the worker work at the same time.
"""

import asyncio
import logging
from collections.abc import Callable

from stoker.queue.broker import Broker
from stoker.queue.records import Delivery, Holds, Turn
from stoker.queue.settlements import Settlement
from stoker.rules.settle import Transition
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop.capacity import FETCH_AT_LEAST, FETCHES_AT_ONCE, Capacity, Reservation
from stoker.worker.loop.minding import Minding
from stoker.worker.loop.outage import Outage
from stoker.worker.loop.shutdown import Shutdown, ShutdownStage
from stoker.worker.loop.slot_pool import PoolShare
from stoker.worker.loop.solitude import Solitude
from stoker.worker.loop.waiting import WorkWaiter
from stoker.worker.system.aio import cancel_all, hidden

_log = logging.getLogger("stoker.worker")


class Turns:
    """Belongs to one event loop. `start` is called with every delivery to run, `busy` returns how many run."""

    def __init__(
        self,
        worker: str,
        slots: int,
        broker: Broker,
        metrics: WorkerMetrics,
        start: Callable[[Delivery], None],
        busy: Callable[[], int],
        solitude: Solitude | None = None,
        share: PoolShare | None = None,
    ) -> None:
        # Read by the testing kit: seconds after which `once` will find more.
        self.back_in: float | None = None
        # Set here when something may have come into the outbox: the relay chore is due.
        self.to_relay = asyncio.Event()
        # Told here, and by the heartbeat, when this worker is to look for chores.
        self.minding = Minding()
        # Advanced here alone; any thread may read it.
        self.shutdown = Shutdown()
        self._worker = worker
        self._broker = broker
        self._metrics = metrics
        self._busy = busy
        # Settlements that no turn carries: `settle` adds, a turn takes all, and brings them back when it fails.
        self._ended: list[Settlement] = []
        # Wakes `_step`: something has ended, a turn is back, or the stage has changed.
        self._stir = asyncio.Event()
        # Whether there may be something to fetch.
        self._look = True
        # Added by `_set_out`, removed by the turn itself.
        self._in_flight: set[asyncio.Task[None]] = set()
        # These two count failures and slots for the turns and for the wait.
        self._outage = Outage()
        # Of the process: its partitions share it.
        solitude = solitude or Solitude()
        self._capacity = Capacity(slots, self.shutdown, start, busy, self._end_unstarted, solitude)
        solitude.join(self._capacity, self._admitted)
        self._seat = share.pool.join(share.weight, self._capacity, self._wants, self._stir.set) if share else None
        self._capacity.seat = self._seat
        self._waiter = WorkWaiter(worker, broker, self._capacity, self._outage, self.shutdown, self._woken, self._look_now)

    @property
    def held(self) -> dict[str, str]:
        """Fence -> id of each task that Redis has not taken the settlement of. Other threads may copy it."""
        return self._capacity.held

    @property
    def empty(self) -> bool:
        """Whether nothing is held, and no turn is in flight."""
        return not self.held and not self._in_flight

    @property
    def trouble(self) -> str | None:
        """Why no tasks are taken; None while they are."""
        if not self.shutdown.taking:
            return "draining" if self.shutdown.draining else "quiet"
        return "Redis does not answer" if self._outage else None

    @property
    def recovering(self) -> bool:
        """Whether Redis does not answer, or does so only since a moment ago."""
        return self._outage.recent

    def settle(self, settlement: Settlement) -> None:
        """Have the next turn carry it."""
        self._capacity.observe_run(settlement.busy)
        self._ended.append(settlement)
        self._stir.set()
        if self._seat:
            self._seat.freed()

    def give_up(self, fence: str, transition: Transition) -> None:
        """End a delivery that has not started; does nothing for others."""
        self._capacity.give_up(fence, transition)

    def quiet(self) -> None:
        """Take no more."""
        self._advance(ShutdownStage.QUIET)

    def drain(self) -> None:
        """Take no more; `run` ends when all that is held is settled."""
        self._advance(ShutdownStage.DRAINING)

    def abort(self) -> None:
        """Drain without waiting for a Redis that is away: what cannot be settled comes back when its lease ends."""
        self._advance(ShutdownStage.ABORTING)

    async def run(self) -> None:
        """Make turns until drained."""
        self._waiter.start()
        self._stir.set()
        try:
            while not self.shutdown.draining:
                await self._step()
            await self._waiter.stop()
            while (self._busy() or self._ended or self._in_flight) and not (self.shutdown.aborting and self._outage):
                await self._step()
        finally:
            await self._waiter.close()
            await cancel_all(*self._in_flight)

    async def once(self) -> int:
        """One turn now, for the testing kit, which steps instead of calling `run`. Returns how many were settled and fetched.

        Raises what the broker raises; what has ended is kept then.
        """
        settlements = self._ended.copy()
        holds = self._capacity.holds(settlements)
        alone = self._capacity.clearing and holds is not Holds.NOTHING
        room = 0 if alone else self._capacity.slots - self._busy()
        turn = await self._broker.turn(settlements, room, self._worker, holds)
        del self._ended[: len(settlements)]
        self._take(turn, settlements, room)
        self.back_in = turn.back_in
        return len(settlements) + len(turn.deliveries)

    def _advance(self, stage: ShutdownStage) -> None:
        if self.shutdown.taking:
            self._waiter.call_off()
        self.shutdown.advance(stage)
        self._capacity.give_back_prefetched()

    async def _step(self) -> None:
        await self._stir.wait()
        self._stir.clear()
        self._capacity.fill()
        self._go()

    def _go(self) -> None:
        while self._due():
            self._set_out()

    def _wants(self) -> bool:
        """Whether it would take tasks now, for the other queues of the process."""
        return (self._look or self._capacity.plenty) and not self._outage and self._capacity.admitted

    def _due(self) -> bool:
        looking = self._look and (self._capacity.free > 0 or self._capacity.room >= FETCH_AT_LEAST)
        if self._in_flight:
            another = len(self._in_flight) < FETCHES_AT_ONCE and not self._outage
            return another and (len(self._ended) >= FETCH_AT_LEAST or (self._capacity.plenty and looking))
        return bool(self._ended) or looking

    def _set_out(self) -> None:
        settlements, self._ended = self._ended, []
        room = self._capacity.room
        reservation = self._capacity.reserve(self._capacity.fetch_size(room), settlements)
        # Without room it has not looked.
        self._look = (self._look and not room) or (self._capacity.plenty and room > reservation.tasks)
        turn = hidden(asyncio.create_task(self._turn(settlements, reservation)))
        self._in_flight.add(turn)
        turn.add_done_callback(self._landed)

    def _landed(self, turn: asyncio.Task[None]) -> None:
        self._in_flight.discard(turn)
        if not turn.cancelled() and (error := turn.exception()):
            _log.critical("a bug in the worker", exc_info=error)
        self._stir.set()

    async def _turn(self, settlements: list[Settlement], reservation: Reservation) -> None:
        try:
            turn = await self._broker.turn(settlements, reservation.tasks, self._worker, reservation.holds)
        except BaseException as error:
            # Of any kind: outcomes dropped here would keep their leases for as long as this worker lives.
            self._ended = settlements + self._ended
            self._look = True
            if not isinstance(error, Exception):
                raise
            reservation.over()  # for as long as it waits, the slots are those of the process' other queues
            if self._seat:
                self._seat.freed()
            await self._outage.wait_out(error, aborting=self.shutdown.aborting)
        else:
            self._outage.over()
            self._take(turn, settlements, reservation.tasks)
        finally:
            reservation.over()
            self._in_flight -= {asyncio.current_task()}
        # Now, not when the loop comes round: the next answer may wait there, and Redis would wait for its tasks.
        self._go()

    def _take(self, turn: Turn, settlements: list[Settlement], room: int) -> None:
        self._capacity.settled(settlements)
        if turn.refused:
            self._metrics.stale.inc(len(turn.refused))
            _log.warning("settlements refused: the leases were lost", extra={"task_ids": [each.id for each in turn.refused]})
        self._capacity.receive(turn.deliveries)
        if room > 0:
            self._capacity.answered(clear=turn.clear)
        self._metrics.slots(self._busy(), self._broker.keys.queue)
        if turn.back_in is not None:
            self._waiter.set_alarm(turn.back_in)
        if turn.relay:
            self.to_relay.set()
        if turn.mind_in is not None:
            self.minding.begin_in(turn.mind_in)
        if room > 0:
            self._capacity.plenty = len(turn.deliveries) == room
        if self._seat:
            self._seat.took(len(turn.deliveries))
            self._seat.freed()
        if self._capacity.plenty:
            self._look = True
        elif room > 0 and self.shutdown.taking:
            self._waiter.there_is_room()
        # For the task on its last life, as soon as nothing is held.
        self._look = self._look or self._capacity.clearing

    def _woken(self, turn: Turn | None, reservation: Reservation) -> None:
        if turn:
            self._take(turn, [], reservation.tasks)
        # It may have been a suspect that woke us, where the wait had not asked for one.
        self._look = self._look or not turn or not (turn.deliveries or reservation.suspect)
        self._go()

    def _end_unstarted(self, settlements: list[Settlement]) -> None:
        self._ended += settlements
        self._stir.set()

    def _admitted(self) -> None:
        self._look = True
        self._stir.set()

    def _look_now(self) -> None:
        self._look = True
        self._go()
