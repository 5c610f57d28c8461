"""Inspector: reads and manual operations (cancel, redrive, delete, purge, pause) for gateway, command line and operator."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from enum import StrEnum
from typing import TypeVar

from stoker.autoscale.scaling_record import ScalingRecord
from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.logbooks import read_acts, read_decisions, record_act, record_decision
from stoker.queue.operations import RunningOperation, begun, read_operations
from stoker.queue.reads.announced import read_announcements
from stoker.queue.reads.dead_groups import DeadGroup, groups_of, read_dead
from stoker.queue.reads.doctor import examine
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.events import follow_all, latest
from stoker.queue.reads.reader import PAGE, SETS, Reader
from stoker.queue.reaping import Reaped, added, reap_host
from stoker.queue.schedules import Schedules
from stoker.queue.scripts import ScriptCall
from stoker.queue.tallies import Records, read_records, set_max_wait
from stoker.redis.client import RedisClient, ask
from stoker.rules.announcement import AnnouncedTemplate
from stoker.rules.audit import Act
from stoker.rules.history import Event
from stoker.rules.identity import Holder, decode_holder
from stoker.rules.losses import LossCause
from stoker.rules.operation import Operation, OperationState
from stoker.rules.states import TaskState
from stoker.rules.tally import MINUTES, TEN_MINUTES, Period, Ring, Slo, VersionRecord

T = TypeVar("T")
PURGED_AT_ONCE = 200
IDS_AT_ONCE = 10_000


class Cancellation(StrEnum):
    """The result of cancelling a task."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"  # it runs; its worker learns of it by its next heartbeat
    OVER = "over"  # it had ended already
    UNKNOWN = "unknown"


_CHANGED = frozenset({Cancellation.CANCELLED, Cancellation.REQUESTED})


class Inspector(Reader):
    """Reads and operates on the queues of one namespace. All methods raise RedisUnavailable or RedisRefused.

    `actor`: the person it acts for, as the audit names it. Without one, as in an application, no act is recorded.
    """

    def __init__(self, redis: RedisClient, namespace: str, actor: str = "") -> None:
        super().__init__(redis, namespace)
        self._actor = actor

    async def redrive(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Make dead tasks ready again, with fresh attempts. Returns the ids of those that were dead."""
        redriven = await self._dead_call("redrive", queue, ids)
        await self._acted(queue, "redrive", len(redriven), _only(redriven))
        return redriven

    async def redrive_all(
        self, queue: str, *, task: str = "", failure: str = "", per_second: float = 0.0, limit: int | None = None
    ) -> AsyncIterator[list[str]]:
        """Redrive dead tasks with this name and type of failure (empty = any), the longest dead first, page by page.

        At most `per_second` (0 = unlimited) and `limit` in all. A task that dies again meanwhile is not redriven twice.
        Yields the ids of each page.
        """
        pages = self._redrive_pages(queue, (task, failure), per_second, limit)
        wanted = " ".join(f"{name}={value}" for name, value in (("task", task), ("failure", failure)) if value)
        async with aclosing(self._operation("redrive", queue, wanted or "all", pages, len)) as recorded:
            async for page in recorded:
                yield page

    async def delete(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Delete dead tasks. Returns the ids of those that were dead."""
        deleted = await self._dead_call("discard", queue, ids)
        await self._acted(queue, "delete", len(deleted), _only(deleted))
        return deleted

    async def dead_groups(self, queue: str) -> list[DeadGroup]:
        """The newest 10,000 dead tasks, grouped by the fingerprint of their failure. At most 100 groups, the largest first."""
        partitions = await self.partitions.names(queue)
        return groups_of([task for partition in partitions for task in await read_dead(self._redis, self._keys(partition))])

    async def cancel(self, queue: str, ids: Sequence[str]) -> list[Cancellation]:
        """Cancel tasks: ready and scheduled ones at once, running ones by their worker's next heartbeat."""
        pages = [list(ids[at : at + PAGE]) for at in range(0, len(ids), PAGE)]
        answers = [Cancellation.UNKNOWN] * len(ids)
        for partition in await self.partitions.names(queue) if ids else []:
            replies = await scripts.run(self._redis, *(ScriptCall("cancel", self._keys(partition), page) for page in pages))
            words = [Cancellation(word.decode()) for reply in replies for word in reply]
            answers = [before if word is Cancellation.UNKNOWN else word for before, word in zip(answers, words, strict=True)]
        changed = [task_id for task_id, answer in zip(ids, answers, strict=True) if answer in _CHANGED]
        await self._acted(queue, "cancel", len(changed), _only(changed))
        return answers

    async def reap_worker(self, queue: str, host: str, max_lost: int, cause: LossCause | None = None) -> Reaped:
        """Give back at once what the worker processes of a pod or machine hold. Only for a host that is known to have ended.

        Each delivery counts as lost, unless the cause (None: unknown) is innocent; a task lost `max_lost` times is buried.
        """
        total = Reaped(0, 0, 0)
        for partition in await self.partitions.names(queue):
            total = added(total, await reap_host(self._redis, self._keys(partition), host, max_lost, cause))
        return total

    async def pause(self, queue: str) -> bool:
        """Stop workers from fetching; running tasks continue. Returns False if the queue was paused already."""
        changed = not await self._set_paused(queue, paused=True)
        await self._acted(queue, "pause", int(changed))
        return changed

    async def resume(self, queue: str) -> bool:
        """Let workers fetch again. Returns False if the queue was not paused."""
        changed = await self._set_paused(queue, paused=False)
        await self._acted(queue, "resume", int(changed))
        return changed

    async def claim(self, queue: str, holder: Holder, instead_of: Holder | None = None) -> Holder:
        """Claim a queue for a TaskQueue, unless another holds it: `instead_of` is taken over. Returns the holder from now on.

        The claim is in the first partition. Repeated by its holder, it writes nothing.
        """
        replaced = instead_of.encode() if instead_of else b""
        [claim] = await scripts.run(self._redis, ScriptCall("claim", self._keys(queue), [holder.encode(), replaced]))
        return decode_holder(claim)

    async def release_claim(self, queue: str, holder: Holder | None = None) -> Holder | None:
        """Release the claim on a queue: that of `holder`, or any. Returns whose it was; None if there was none, or another's."""
        call = ScriptCall("release_claim", self._keys(queue), [holder.encode() if holder else b""])
        [claim] = await scripts.run(self._redis, call)
        released = decode_holder(claim) if claim else None
        await self._acted(queue, "release claim", int(released is not None), released.name if released else "")
        return released

    async def purge(self, queue: str, state: TaskState) -> AsyncIterator[int]:
        """Delete all tasks of one state, in bounded steps. Yields how many each step has deleted.

        Raises Invalid for running tasks: cancel them instead.
        """
        if state is TaskState.RUNNING:
            raise Invalid("running tasks cannot be purged: cancel them, or pause the queue and wait")
        async with aclosing(self._operation("purge", queue, state, self._purge_steps(queue, state), int)) as recorded:
            async for gone in recorded:
                yield gone

    async def events(self, queue: str, after: str | None = None) -> AsyncGenerator[Event, None]:
        """Events of a queue as they happen, from now on or after the `position` of an event. Never ends by itself."""
        partitions = [self._keys(name) for name in await self.partitions.names(queue)]
        async with aclosing(follow_all(self._redis, partitions, after)) as events:
            async for event in events:
                yield event

    async def latest_events(self, queue: str, limit: int = PAGE) -> list[Event]:
        """The last events, oldest first. Events are recorded only while they are watched."""
        partitions = [self._keys(partition) for partition in await self.partitions.names(queue)]
        found = [event for keys in partitions for event in await latest(self._redis, keys, limit)]
        return sorted(found, key=lambda event: event.at)[-limit:]

    async def examine(self, queue: str, *, mend: bool = False) -> AsyncIterator[Finding]:
        """Check a queue for damage, and repair it with `mend`: see `doctor`."""
        mended = 0
        try:
            for partition in await self.partitions.names(queue):
                async for finding in examine(self._redis, self._keys(partition), mend=mend):
                    mended += finding.mended
                    yield finding
        finally:
            await self._acted(queue, "mend", mended)

    async def minutes(self, queue: str) -> list[Period]:
        """The last two hours of a queue by the minute, oldest first: runs of each task, how long they waited and ran.

        Minutes without runs are left out. `period.tasks["send"].run.quantile(0.95)` is within 13 % (rules/buckets.py). Workers
        report once a minute.
        """
        return (await self._records(queue, MINUTES)).periods

    async def ten_minutes(self, queue: str) -> list[Period]:
        """As `minutes`: the last three days, by ten minutes."""
        return (await self._records(queue, TEN_MINUTES)).periods

    async def versions(self, queue: str) -> list[VersionRecord]:
        """The last 20 versions of the workers, oldest first, each with its runs and when it was first and last seen."""
        return (await self._records(queue)).versions

    async def announcements(self, queue: str) -> list[AnnouncedTemplate]:
        """What the workers of each template know: names, versions and schemas of tasks. The latest announcement first."""
        return await read_announcements(self._redis, self._first(queue))

    async def decisions(self, queue: str, limit: int = PAGE) -> list[ScalingRecord]:
        """The last decisions of the autoscaler, newest first: at most 500 are kept."""
        return await read_decisions(self._redis, self._first(queue), limit)

    async def audit(self, queue: str, limit: int = PAGE) -> list[Act]:
        """The last acts of people on a queue, newest first: about 10,000 are kept."""
        return await read_acts(self._redis, self._first(queue), limit)

    async def operations(self) -> list[Operation]:
        """The last long acts of people in this namespace (redrive by filter, purge), newest first: 100 are kept."""
        return await read_operations(self._redis, self._keys(""))

    async def record_decision(self, queue: str, record: ScalingRecord) -> None:
        """Record a decision of the autoscaler."""
        await record_decision(self._redis, self._first(queue), record)

    async def slo(self, queue: str) -> Slo:
        """Runs that have started within the queue's `max_wait`, and all runs, since it was set first. Both only grow."""
        return (await self._records(queue)).slo

    async def set_max_wait(self, queue: str, seconds: float | None) -> None:
        """Set the wait within which runs are to start; None: count no more. Workers learn of it within a minute."""
        await set_max_wait(self._redis, self._first(queue), seconds)
        await self._acted(queue, "set max_wait", 1, "none" if seconds is None else f"{seconds:g} s")

    def schedules(self, queue: str) -> Schedules:
        """The schedules of a queue."""
        return Schedules(self._redis, self._keys(queue), acted=lambda act, name: self._acted(queue, act, 1, name))

    async def _redrive_pages(
        self, queue: str, matching: tuple[str, str], per_second: float, limit: int | None
    ) -> AsyncIterator[list[str]]:
        partitions = await self.partitions.names(queue)
        wanted = [task_id for partition in partitions for task_id in await self._dead_matching(partition, *matching)]
        left = limit
        for at in range(0, len(wanted), PAGE):
            page = wanted[at : at + PAGE] if left is None else wanted[at : at + min(PAGE, left)]
            if not page:
                return
            redriven = await self._dead_call("redrive", queue, page)
            left = None if left is None else left - len(redriven)
            yield redriven
            if per_second:
                await asyncio.sleep(len(redriven) / per_second)

    async def _purge_steps(self, queue: str, state: TaskState) -> AsyncIterator[int]:
        for partition in await self.partitions.names(queue):
            for key in reversed(SETS[state]):  # parked ones first: deleting the others would make them ready
                call = ScriptCall("purge", self._keys(partition), [key, PURGED_AT_ONCE])
                while gone := (await scripts.run(self._redis, call))[0]:
                    yield gone

    async def _operation(
        self, act: str, queue: str, wanted: str, steps: AsyncIterator[T], size: Callable[[T], int]
    ) -> AsyncGenerator[T, None]:
        """The steps of a long act, recorded while they are made, and in the audit at their end, whatever ends them."""
        done, operation = 0, None
        if self._actor:
            operation = RunningOperation(self._redis, self._first(queue), begun(act, queue, self._actor, wanted))
            await operation.record(OperationState.RUNNING)
        try:
            async for step in steps:
                done += size(step)
                if operation:
                    await operation.advance(size(step))
                yield step
            if operation:
                await operation.record(OperationState.DONE)
        except BaseException:
            if operation:
                await operation.record(OperationState.STOPPED)
            raise
        finally:
            await self._acted(queue, act, done, wanted)

    async def _acted(self, queue: str, act: str, count: int, detail: str = "") -> None:
        """Record what has been done, if it was for a person and has changed anything."""
        if self._actor and count:
            await record_act(self._redis, self._first(queue), Act(self._actor, act, count, detail))

    async def _records(self, queue: str, ring: Ring | None = None) -> Records:
        return await read_records(self._redis, self._first(queue), ring)

    def _first(self, queue: str) -> Keys:
        """The first partition, which holds what is recorded about the whole queue."""
        return self._keys(queue.partition(":")[0])

    async def _set_paused(self, queue: str, *, paused: bool) -> bool:
        partitions = [self._keys(partition) for partition in await self.partitions.names(queue)]
        calls = [ScriptCall("pause", keys, [int(paused)]) for keys in partitions]
        before = await scripts.run(self._redis, *calls)
        return all(before) if paused else any(before)

    async def _dead_matching(self, partition: str, task: str, failure: str) -> list[str]:
        names = await self._dead_ids(partition)
        if not task and not failure:
            return names
        found: list[str] = []
        for at in range(0, len(names), PAGE):
            for status in await self._tasks(partition, names[at : at + PAGE]):
                kind = status.failure.type if status.failure else ""
                if status.state is TaskState.DEAD and task in ("", status.task) and failure in ("", kind):
                    found.append(status.id)
        return found

    async def _dead_ids(self, partition: str) -> list[str]:
        """The ids of all dead tasks, the longest dead first. Read from the newest: those that leave meanwhile are mostly old."""
        newest_first: dict[bytes, None] = {}
        first = 0
        while found := await ask(self._redis, "ZREVRANGE", self._keys(partition).dead, first, first + IDS_AT_ONCE - 1):
            newest_first.update(dict.fromkeys(found))
            first += len(found)
        return [task_id.decode() for task_id in reversed(newest_first)]

    async def _dead_call(self, script: str, queue: str, ids: Sequence[str]) -> list[str]:
        partitions = await self.partitions.names(queue) if ids else []
        pages = [list(ids[at : at + PAGE]) for at in range(0, len(ids), PAGE)]
        calls = [ScriptCall(script, self._keys(partition), page) for partition in partitions for page in pages]
        replies = await scripts.run(self._redis, *calls) if calls else []
        return [task_id.decode() for reply in replies for task_id in reply]


def _only(ids: Sequence[str]) -> str:
    """The id, where it is one."""
    return ids[0] if len(ids) == 1 else ""
