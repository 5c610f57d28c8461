"""The client: enqueues tasks and waits for their results. Used by the application, the gateway and the command line."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import groupby
from typing import TypeVar

from stoker.client.lazy import Lazy
from stoker.client.waits import waiting_for
from stoker.clock import Clock, milliseconds, system
from stoker.errors import Conflict, Invalid, NotFound, RedisUnavailable, ResultPending, TaskFailed
from stoker.queue.announcements import Announcements
from stoker.queue.batching import Batching
from stoker.queue.broker import ENQUEUED_AT_ONCE, Broker
from stoker.queue.keys import Keys
from stoker.queue.reads.inspector import Inspector
from stoker.queue.records import Answer, Receipt, TaskStatus
from stoker.queue.workflows.joins import Joins
from stoker.queue.workflows.launch import launch
from stoker.redis.client import RedisClient
from stoker.redis.connect import connect
from stoker.rules.admission import Admission
from stoker.rules.call import TaskCall
from stoker.rules.durability import Durability
from stoker.rules.effects import starting_tasks
from stoker.rules.message import IdFactory
from stoker.rules.partitions import partition_of
from stoker.rules.states import TaskState
from stoker.rules.workflow import Origin, OutboxEntry, Steps, home_queue
from stoker.telemetry.tracing import Tracing

T = TypeVar("T")
FIRST_LOOK, LONGEST_LOOK = 0.01, 0.5
"""Seconds between two looks at an awaited task: the first pause, and the longest."""
TRY_AGAIN_AFTER = (0.1, 0.4)
"""Seconds before the second and the third try of an enqueue that Redis did not answer."""
TRY_AGAIN_WITHIN = 5.0
"""Seconds since the first try after which no other begins, so that callers hear of a Redis that hangs."""

ANNOUNCED_FOR = 60.0
"""Seconds after which an enqueue adds its queue to the catalogue again, which may have forgotten it."""


class Client:
    """Enqueues tasks into the queues of one namespace and waits for their results. Belongs to one event loop.

    `actor`: as of the Inspector.
    """

    def __init__(
        self, redis: RedisClient, namespace: str, tracing: Tracing | None = None, clock: Clock = system, actor: str = ""
    ) -> None:
        self.inspector = Inspector(redis, namespace, actor)
        self.joins = Joins(redis, namespace, self.inspector.partitions)
        self._partitions = self.inspector.partitions
        self._announcements = Announcements(redis, namespace)
        self._redis = redis
        self._namespace = namespace
        self._tracing = tracing or Tracing()
        self._clock = clock
        self._actor = actor
        self._new_id = IdFactory()
        self._announced: dict[str, float] = {}
        self._batchings: dict[tuple[str, Durability], Batching] = {}

    @classmethod
    def at(cls, url: str, namespace: str, actor: str = "") -> "Client":
        """A client with its own connection. Raises Invalid for a bad URL; nothing is sent yet."""
        return cls(connect(url), namespace, actor=actor)

    def within(self, namespace: str) -> "Client":
        """A client of another namespace on the same connections, which only one of them closes."""
        return Client(self._redis, namespace, self._tracing, self._clock, self._actor)

    async def close(self) -> None:
        """Close its connections."""
        await self._redis.aclose()

    def abandon(self) -> None:
        """Cut its connections, when its event loop is closed already."""
        self._redis.abandon()

    def enqueue(self, calls: Sequence[TaskCall]) -> Awaitable[list[Answer]]:
        """Enqueue in order. All calls are checked before the first is sent; `receipts` of the answers raises their first Conflict.

        Where Redis does not answer, they are sent again, up to two times within five seconds. They have their ids by then, so a
        call whose answer was lost makes one task. Raises Invalid for a bad call, RedisUnavailable, RedisRefused or NotDurable;
        after those three a call with its own `id` or `idempotency_key` may be sent again safely.
        """
        for call in calls:
            if not isinstance(call, TaskCall):
                raise Invalid(f"{call!r:.50} is no prepared call: use task.prepare(...)")
            call.check()
            if call.into is not None:
                raise Invalid(f"task {call.task} waits for a result as its {call.into!r}: put it into a chain, behind another task")
        return self._enqueue_alike(calls) if len(calls) == 1 else self._enqueue_mixed(calls)

    async def launch(self, steps: Steps, key: str) -> None:
        """Start a workflow whose first step is a group. Tried again as in `enqueue`; `key` is unique to it. Raises as `enqueue`."""
        with self._tracing.sending(home_queue(steps), starting_tasks(steps)) as trace:
            entry = OutboxEntry(key, Origin(milliseconds(self._clock), trace), steps)
            began, attempt = time.monotonic(), partial(launch, self._redis, self._namespace, self._partitions, entry)
            try:
                await attempt()
            except RedisUnavailable as error:
                await self._insist(attempt, began, error)

    async def status(self, queue: str, task_id: str) -> TaskStatus:
        """Where the task is. Raises NotFound where it never existed or is past its retention."""
        return await self.inspector.task(queue, task_id)

    async def wait(
        self, queue: str, task_id: str, timeout: float | None = None, not_there: Callable[[], Awaitable[None]] | None = None
    ) -> TaskStatus:
        """Wait until the task has succeeded. Raises TaskFailed when it is dead or cancelled, ResultPending after `timeout` seconds.

        `not_there` is awaited while no such task exists, and raises where none can come any more; without it, a task that does
        not exist raises TaskFailed.
        """
        with waiting_for(queue):
            status = await self._wait(queue, task_id, timeout, not_there)
        if status.state is TaskState.CANCELLED:
            raise TaskFailed(f"task {task_id} {'expired before it could run' if status.expired else 'was cancelled'}")
        if status.state is TaskState.DEAD:
            words = f"task {task_id} is dead"
            if not (failure := status.failure):
                raise TaskFailed(f"{words}: no reason kept")
            text = f"{words}: {failure.type}: {failure.message}"
            raise TaskFailed(text, type=failure.type, message=failure.message, traceback=failure.traceback)
        return status

    async def _wait(
        self, queue: str, task_id: str, timeout: float | None, not_there: Callable[[], Awaitable[None]] | None
    ) -> TaskStatus:
        pause, until = FIRST_LOOK, math.inf if timeout is None else time.monotonic() + timeout
        try:
            async with asyncio.timeout(timeout or None):  # with 0 seconds too it looks once
                while (status := await self._look(queue, task_id, not_there)) is None or not status.state.final:
                    if time.monotonic() >= until:  # before Python 3.12 redis-py may lose the timeout's one cancellation
                        raise TimeoutError
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, LONGEST_LOOK)
        except TimeoutError:
            raise ResultPending(f"task {task_id} has not ended within {timeout:g} s") from None
        return status

    async def _look(self, queue: str, task_id: str, not_there: Callable[[], Awaitable[None]] | None) -> TaskStatus | None:
        try:
            return await self.status(queue, task_id)
        except NotFound as error:
            if not_there is None:
                raise TaskFailed(f"task {task_id} is forgotten: {error}") from error
        await not_there()
        return None

    async def _insist(self, call: Callable[[], Awaitable[T]], began: float, error: RedisUnavailable) -> tuple[T, int]:
        """Try again after `error`, the end of a first try that `began` then. Returns the result and the number of tries."""
        for tries, pause in enumerate(TRY_AGAIN_AFTER, 2):
            if time.monotonic() + pause > began + TRY_AGAIN_WITHIN:
                break
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            try:
                return await call(), tries
            except RedisUnavailable as again:
                error = again
        raise error

    async def _enqueue_mixed(self, calls: Sequence[TaskCall]) -> list[Answer]:
        answers: list[Answer] = []
        for _, run in groupby(calls, key=lambda call: (call.queue, call.durability)):
            answers += await self._enqueue_alike(list(run))
        return answers

    async def _enqueue_alike(self, calls: Sequence[TaskCall]) -> list[Answer]:
        """Calls for one queue, at one durability."""
        queue, durability, began, tries = calls[0].queue, calls[0].durability, time.monotonic(), 1
        with self._tracing.sending(queue, len(calls)) as trace:
            admissions = self._admissions(calls, trace)
            try:
                answers = await self._enqueue_into(queue, admissions, durability)
            except RedisUnavailable as error:
                answers, tries = await self._insist(partial(self._enqueue_into, queue, admissions, durability), began, error)
        if all(map(_is_new, answers)):
            return answers
        now = self._clock()
        return [_as_seen_by(*each, tries, now) for each in zip(calls, admissions, answers, strict=True)]

    def _admissions(self, calls: Sequence[TaskCall], trace: dict[str, str]) -> Sequence[Admission]:
        """What is sent for these calls. Of many, Redis has the first before the last is made: what was checked can be encoded."""
        now, make_id = milliseconds(self._clock), self._new_id
        if len(calls) > ENQUEUED_AT_ONCE:
            return Lazy(lambda call: call.admission(make_id, now, trace), calls)
        return [call.admission(make_id, now, trace) for call in calls]

    def _enqueue_into(self, queue: str, admissions: Sequence[Admission], durability: Durability) -> Awaitable[list[Answer]]:
        partitions, batching = self._partitions.remembered(queue), self._batchings.get((queue, durability))
        if batching and partitions == [queue]:
            # Not through a coroutine: for a thousand concurrent enqueues that would be a thousand more objects.
            return batching.enqueue(admissions)
        return self._enqueue_into_unknown(queue, admissions, durability)

    async def _enqueue_into_unknown(self, queue: str, admissions: Sequence[Admission], durability: Durability) -> list[Answer]:
        """The same where its partitions must be asked for, are several, or have no batching yet."""
        partitions = await self._partitions.names(queue)
        now = time.monotonic()
        if now - self._announced.setdefault(queue, now) > ANNOUNCED_FOR:
            for partition in partitions:
                await Broker(self._redis, Keys(self._namespace, partition)).register()
            self._announced[queue] = now
        if len(partitions) > 1:
            return await self._enqueue_across(partitions, admissions, durability)
        return await (await self._batching(queue, durability)).enqueue(admissions)

    async def _enqueue_across(
        self, partitions: Sequence[str], admissions: Sequence[Admission], durability: Durability
    ) -> list[Answer]:
        """Each into its partition, in order there."""
        parts: dict[str, list[int]] = {}
        for at, admission in enumerate(admissions):
            parts.setdefault(partition_of(admission.partition_key, partitions), []).append(at)
        batchings = [await self._batching(partition, durability) for partition in parts]
        under_way = (
            batching.enqueue([admissions[at] for at in part]) for batching, part in zip(batchings, parts.values(), strict=True)
        )
        found: dict[int, Answer] = {}
        for part, answers in zip(parts.values(), await asyncio.gather(*under_way), strict=True):
            found.update(zip(part, answers, strict=True))
        return [found[at] for at in range(len(admissions))]

    async def _batching(self, partition: str, durability: Durability) -> Batching:
        await self._announcements.announce(partition)
        if batching := self._batchings.get((partition, durability)):
            return batching
        broker = Broker(self._redis, Keys(self._namespace, partition))
        return self._batchings.setdefault((partition, durability), Batching(partial(broker.enqueue, durability=durability)))


def _is_new(answer: Answer) -> bool:
    return type(answer) is Receipt and not answer.duplicate


def _as_seen_by(call: TaskCall, admission: Admission, answer: Answer, tries: int, now: float) -> Answer:
    """The answer in the caller's terms: by its idempotency key, and new where only an earlier try of this call was first."""
    if isinstance(answer, Conflict):
        if call.idempotency_key is None:
            return answer
        words = f"idempotency key {call.idempotency_key!r} belongs to another task in queue {call.queue}"
        return Conflict(f"{words}: take another key, or send the same task and payload")
    if answer.duplicate and tries > 1 and call.own_id is None and answer.id == admission.message.id:
        # The id was made here, so it is this very task: an earlier try was taken, and its answer lost.
        return Receipt(answer.id, TaskState.SCHEDULED if call.delay or call.run_at > now else TaskState.READY)
    return answer
