"""Waiting for work: an idle worker blocks in Redis on the wake token, and has the tasks come in the same round trip.

A token wakes one worker. One that took it and will not fetch passes it on, or the task it stands for would wait for the next look
of another worker.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from stoker.errors import StokerError
from stoker.queue.broker import FETCHED_AT_ONCE, Broker
from stoker.queue.records import Turn
from stoker.worker.loop.capacity import FETCHES_AT_ONCE, Capacity, Reservation
from stoker.worker.loop.outage import Outage
from stoker.worker.loop.shutdown import Shutdown
from stoker.worker.system.aio import cancel_all, hidden

LONGEST_WAIT = 5.0
"""Seconds of one blocking call."""
OTHERS_FIRST = 0.2
"""Seconds for which a worker that holds a suspect leaves new tasks to others."""
SHORTEST_ALARM = 0.001
CALL_OFF_TIMEOUT, IN_TRANSIT = 1.0, 0.1
"""Seconds for Redis to confirm that a wait is over, and for what it had already sent to arrive."""


class WorkWaiter:
    """Blocks in Redis while there is room and the queue is empty. Belongs to one event loop.

    `woken` is called with what a wait brought (None: only a turn can fetch it), `look` when there may be something to fetch.
    """

    def __init__(
        self,
        worker: str,
        broker: Broker,
        capacity: Capacity,
        outage: Outage,
        shutdown: Shutdown,
        woken: Callable[[Turn | None, Reservation], None],
        look: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._broker = broker
        self._capacity = capacity
        self._outage = outage
        self._shutdown = shutdown
        self._woken = woken
        self._look = look
        # Set by Turns when a fetch brought less than it asked for, cleared by `_run`.
        self._has_room = asyncio.Event()
        # Set by Turns after a fetch: when the rate limit lets the next task go. A wait in Redis may have begun before.
        self._alarm: asyncio.TimerHandle | None = None
        # The rest is written here alone.
        self._task: asyncio.Task[None] | None = None
        self._fetch: asyncio.Task[None] | None = None  # the wait that brings tasks, while it blocks
        self._calling_off: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task that `stop` ends."""
        self._task = hidden(asyncio.create_task(self._run()))

    def there_is_room(self) -> None:
        """The queue has no more tasks for now: wait for the next."""
        self._has_room.set()

    def set_alarm(self, seconds: float) -> None:
        """Look again after this many seconds."""
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(seconds, SHORTEST_ALARM), self._look)

    def call_off(self) -> None:
        """No more tasks are wanted: end the wait that would bring some."""
        if self._fetch:
            self._calling_off = hidden(asyncio.create_task(self._call_off(self._fetch)))

    async def stop(self) -> None:
        """Wait no more, and let another worker have what woke us."""
        if self._calling_off:
            await asyncio.wait({self._calling_off})
        await self.close()
        await self._pass_on()

    async def close(self) -> None:
        """End the task."""
        if self._task:
            await cancel_all(self._task)

    async def _run(self) -> None:
        while True:
            await self._has_room.wait()
            self._has_room.clear()
            if self._capacity.clearing:
                continue  # a turn follows, and says again that there is room
            if self._capacity.suspects:
                # What woke us may be another suspect, which we may not hold beside ours: let those who wait have it first.
                await self._pass_on()
                await asyncio.sleep(OTHERS_FIRST)
            # A share of the slots: the others are for what ends or falls due meanwhile.
            # Beside other queues none: their tasks need the slots that it would hold for as long as it waits.
            room = 0 if self._capacity.seat else min(self._capacity.free // FETCHES_AT_ONCE, FETCHED_AT_ONCE)
            try:
                if room > 0 and not self._capacity.suspects:
                    await self._wait_and_take(room)
                else:
                    await self._broker.wait_for_work(LONGEST_WAIT)
                    self._look()
                    if self._capacity.seat and not self._capacity.asked:  # the other queues have all slots
                        await self._pass_on()
            except Exception as error:
                await self._outage.wait_out(error, aborting=self._shutdown.aborting)
                self._look()
            if not self._shutdown.taking:
                await self._pass_on()

    async def _wait_and_take(self, room: int) -> None:
        """Block, and have the tasks with the wake-up: one round trip earlier than by a turn."""
        reservation = self._capacity.reserve(room)
        self._fetch = fetch = hidden(asyncio.create_task(self._take_when_woken(reservation)))
        try:
            await asyncio.wait({fetch})
        finally:
            self._fetch = None
            await cancel_all(fetch)
            reservation.over()
        if not fetch.cancelled():  # it was called off
            fetch.result()

    async def _take_when_woken(self, reservation: Reservation) -> None:
        turn = await self._broker.wait_and_take(reservation.tasks, self._worker, LONGEST_WAIT, reservation.holds)
        reservation.over()
        self._outage.over()
        self._woken(turn, reservation)

    async def _call_off(self, fetch: asyncio.Task[None]) -> None:
        """Tell Redis before the wait is cancelled: tasks sent to a wait that is gone would be lost for a lease."""
        with suppress(StokerError, TimeoutError):
            async with asyncio.timeout(CALL_OFF_TIMEOUT):
                await self._broker.quiet(self._worker)
        await asyncio.wait({fetch}, timeout=IN_TRANSIT)
        fetch.cancel()

    async def _pass_on(self) -> None:
        # We may have taken the only wake token, for a task that another worker has to fetch now.
        with suppress(StokerError):
            await self._broker.pass_on()
