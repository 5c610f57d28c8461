"""The enqueuing side: what the application's tasks, the gateway and the command line send tasks with."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import TypeVar

from stoker.client.call import TaskCall
from stoker.client.lazy import Lazy
from stoker.clock import Clock, milliseconds, system
from stoker.errors import Conflict, Invalid, NotFound, RedisUnavailable, ResultPending, StokerError, TaskFailed
from stoker.queue import scripts
from stoker.queue.batching import Batching
from stoker.queue.broker import ENQUEUED_AT_ONCE, Broker, taken
from stoker.queue.health import check_layout
from stoker.queue.keys import Keys
from stoker.queue.partitions import located
from stoker.queue.reads.inspector import Inspector
from stoker.queue.records import Receipt, TaskStatus
from stoker.queue.workflows.effects import Keyed, launch_call, pack
from stoker.queue.workflows.joins import Joins
from stoker.queue.workflows.outbox import Outbox
from stoker.redis.client import RedisClient
from stoker.redis.connect import connect
from stoker.rules.admission import Admission
from stoker.rules.durability import Durability
from stoker.rules.items import Send, follow, size_of
from stoker.rules.message import IdFactory
from stoker.rules.partitions import Kind, place_of
from stoker.rules.plan import NO_RESULT, Chain, Onward, Origin, home_of
from stoker.rules.states import TaskState
from stoker.telemetry.tracing import Tracing

T = TypeVar("T")
FIRST_LOOK, LONGEST_LOOK = 0.01, 0.5
TRY_AGAIN_AFTER = (0.1, 0.4)
"""Seconds before the second and the third try of an enqueue that Redis did not answer."""
TRY_AGAIN_WITHIN = 5.0
"""Seconds since the first try after which no other begins: whoever waits must hear of a Redis that hangs."""


class Client:
    """Sends tasks to the queues of one namespace and waits for their ends. Belongs to one event loop."""

    def __init__(self, redis: RedisClient, namespace: str, tracing: Tracing | None = None, clock: Clock = system) -> None:
        self.inspector = Inspector(redis, namespace)
        self.joins = Joins(redis, namespace, self.inspector.partitions)
        self._partitions = self.inspector.partitions
        self._redis = redis
        self._namespace = namespace
        self._tracing = tracing or Tracing()
        self._clock = clock
        self._new_id = IdFactory()
        self._doors: dict[tuple[str, Durability], Batching] = {}

    @classmethod
    def at(cls, url: str, namespace: str) -> "Client":
        """A client with a connection of its own. Raises Invalid for a URL it cannot read; nothing is sent yet."""
        return cls(connect(url), namespace)

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()

    async def send(self, calls: Sequence[TaskCall]) -> list[Receipt]:
        """Enqueue in order. All calls are checked before the first is sent.

        Where Redis does not answer they are sent again, up to two times within five seconds: they have their ids by then,
        so a call whose answer was lost makes one task. Raises Invalid for a bad call, Conflict for an id or key that
        another task has, RedisUnavailable, RedisRefused or NotDurable; after those three a call with an `id` or
        `idempotency_key` of its own may simply be sent again.
        """
        return taken(await self.offer(calls))

    def offer(self, calls: Sequence[TaskCall]) -> Awaitable[list[Receipt | Conflict]]:
        """The same, for those who want to know of every call: a Conflict is returned in its place, not raised."""
        for call in calls:
            call.check()
            if call.into is not None:
                raise Invalid(f"task {call.task} waits for a result as its {call.into!r}: put it into a chain, behind another task")
        return self._offer_to(calls) if len(calls) == 1 else self._offer_all(calls)

    async def launch(self, steps: Chain, key: str) -> None:
        """Begin a workflow that begins with a group: all of it in one step, or as an entry of an outbox that is relayed at once.

        Sent again as `send` does; `key` tells it from all others. Raises as `send`.
        """
        queue = home_of(steps)
        with self._tracing.sending(queue, size_of(steps[:1])) as trace:
            origin = Origin(milliseconds(self._clock), trace)
            began, launch = time.monotonic(), partial(self._launch, queue, steps, key, origin)
            try:
                await launch()
            except RedisUnavailable as error:
                await self._insist(launch, began, error)

    async def status(self, queue: str, task_id: str) -> TaskStatus:
        """Raises NotFound for a task that never was or is forgotten."""
        return await self.inspector.task(queue, task_id)

    async def wait(
        self, queue: str, task_id: str, timeout: float | None = None, not_there: Callable[[], Awaitable[None]] | None = None
    ) -> TaskStatus:
        """Wait until the task has succeeded. Raises TaskFailed when it died, ResultPending after `timeout` seconds.

        Where it is not there, `not_there` says whether it may yet come, and raises where not; without it, it is forgotten.
        """
        pause, until = FIRST_LOOK, math.inf if timeout is None else time.monotonic() + timeout
        try:
            async with asyncio.timeout(timeout or None):  # with 0 seconds it still looks once
                while (status := await self._look(queue, task_id, not_there)) is None or not status.state.final:
                    if time.monotonic() >= until:  # before Python 3.12 redis-py may lose the timeout's one cancellation
                        raise TimeoutError
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, LONGEST_LOOK)
        except TimeoutError:
            raise ResultPending(f"task {task_id} has not ended within {timeout:g} s") from None
        if status.state is TaskState.CANCELLED:
            raise TaskFailed(f"task {task_id} {'expired before it could run' if status.expired else 'was cancelled'}")
        if status.state is TaskState.DEAD:
            words = f"task {task_id} is in the dead letters"
            if not (failure := status.failure):
                raise TaskFailed(f"{words}: no reason kept")
            text = f"{words}: {failure.type}: {failure.message}"
            raise TaskFailed(text, type=failure.type, message=failure.message, traceback=failure.traceback)
        return status

    async def _look(self, queue: str, task_id: str, not_there: Callable[[], Awaitable[None]] | None) -> TaskStatus | None:
        try:
            return await self.status(queue, task_id)
        except NotFound as error:
            if not_there is None:
                raise TaskFailed(f"task {task_id} is forgotten: {error}") from error
        await not_there()
        return None

    async def _launch(self, queue: str, steps: Chain, key: str, origin: Origin) -> None:
        where = await located(self._partitions, [steps])
        place = where(queue, Kind(key))
        keys = Keys(self._namespace, place)
        await check_layout(self._redis, keys)
        await Broker(self._redis, keys).register()
        items = follow(place, key, Onward(steps), NO_RESULT, origin, where)
        call = launch_call(keys, [Keyed(f"{key} {at}", pack(item)) for at, item in enumerate(items)])
        await scripts.run(self._redis, call)
        if any(isinstance(item, Send) for item in items):
            outbox = Outbox(self._redis, keys)
            with suppress(StokerError):  # it is safe where it lies: any worker of this queue relays it
                await outbox.relay(await outbox.read())

    async def _insist(self, call: Callable[[], Awaitable[T]], began: float, error: RedisUnavailable) -> tuple[T, int]:
        """The answer to a call whose first try, begun at that moment, was not answered; and how many tries it took."""
        for tries, pause in enumerate(TRY_AGAIN_AFTER, 2):
            if time.monotonic() + pause > began + TRY_AGAIN_WITHIN:
                break
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            try:
                return await call(), tries
            except RedisUnavailable as again:
                error = again
        raise error

    async def _offer_all(self, calls: Sequence[TaskCall]) -> list[Receipt | Conflict]:
        outcomes: list[Receipt | Conflict] = []
        for _, run in groupby(calls, key=lambda call: (call.queue, call.durability)):
            outcomes += await self._offer_to(list(run))
        return outcomes

    async def _offer_to(self, calls: Sequence[TaskCall]) -> list[Receipt | Conflict]:
        """All of them for one queue, at one durability."""
        queue, durability, began, tries = calls[0].queue, calls[0].durability, time.monotonic(), 1
        with self._tracing.sending(queue, len(calls)) as trace:
            entries = self._entries(calls, trace)
            try:
                outcomes = await self._offered(queue, entries, durability)
            except RedisUnavailable as error:
                outcomes, tries = await self._insist(partial(self._offered, queue, entries, durability), began, error)
        if all(map(_is_new, outcomes)):
            return outcomes
        now = self._clock()
        return [_seen_by(*each, tries, now) for each in zip(calls, entries, outcomes, strict=True)]

    def _offered(self, queue: str, entries: Sequence[Admission], durability: Durability) -> Awaitable[list[Receipt | Conflict]]:
        places, door = self._partitions.remembered(queue), self._doors.get((queue, durability))
        # Of a thousand that wait for the same answer, each awaits the door itself: a coroutine between is one more object.
        return door.offer(entries) if door and places == [queue] else self._offered_where(queue, entries, durability)

    async def _offered_where(self, queue: str, entries: Sequence[Admission], durability: Durability) -> list[Receipt | Conflict]:
        places = await self._partitions.places(queue)
        if len(places) > 1:
            return await self._spread(places, entries, durability)
        return await (await self._door(queue, durability)).offer(entries)

    async def _spread(
        self, places: Sequence[str], entries: Sequence[Admission], durability: Durability
    ) -> list[Receipt | Conflict]:
        """Each to its partition, in order there."""
        parts: dict[str, list[int]] = {}
        for at, entry in enumerate(entries):
            parts.setdefault(place_of(entry.kind, places), []).append(at)
        doors = [await self._door(place, durability) for place in parts]
        offers = (door.offer([entries[at] for at in part]) for door, part in zip(doors, parts.values(), strict=True))
        found: dict[int, Receipt | Conflict] = {}
        for part, outcomes in zip(parts.values(), await asyncio.gather(*offers), strict=True):
            found.update(zip(part, outcomes, strict=True))
        return [found[at] for at in range(len(entries))]

    async def _door(self, place: str, durability: Durability) -> Batching:
        if door := self._doors.get((place, durability)):
            return door
        broker = Broker(self._redis, Keys(self._namespace, place))
        await check_layout(self._redis, broker.keys)
        await broker.register()
        return self._doors.setdefault((place, durability), Batching(partial(broker.offer, durability=durability)))

    def _entries(self, calls: Sequence[TaskCall], trace: dict[str, str]) -> Sequence[Admission]:
        """What is sent for them. Of many, Redis has the first before the last is made."""
        make = partial(self._entry, milliseconds(self._clock), trace)
        return Lazy(make, calls) if len(calls) > ENQUEUED_AT_ONCE else list(map(make, calls))

    def _entry(self, now: int, trace: dict[str, str], call: TaskCall) -> Admission:
        message = call.message(call.own_id or self._new_id(), call.created or now, trace)
        return Admission(message, call.delay, call.run_at, call.claim, call.limit)


def _is_new(outcome: Receipt | Conflict) -> bool:
    return type(outcome) is Receipt and not outcome.duplicate


def _seen_by(call: TaskCall, entry: Admission, outcome: Receipt | Conflict, tries: int, now: float) -> Receipt | Conflict:
    """What the caller is to know: nothing of ids that it did not choose."""
    if isinstance(outcome, Conflict):
        if call.idempotency_key is None:
            return outcome
        words = f"idempotency key {call.idempotency_key!r} belongs to another task in queue {call.queue}"
        return Conflict(f"{words}: take another key, or send the same task and payload")
    if outcome.duplicate and tries > 1 and call.own_id is None and outcome.id == entry.message.id:
        # Nobody else has this id, so it is this very task: an earlier try was taken, and its answer lost.
        return Receipt(outcome.id, TaskState.SCHEDULED if call.delay or call.run_at > now else TaskState.READY)
    return outcome
