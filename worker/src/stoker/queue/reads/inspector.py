"""Inspector: reads and manual operations (cancel, redrive, delete, purge, pause) for gateway, command line and operator."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from enum import StrEnum

from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.reads.dead_groups import DeadGroup, groups_of, read_dead
from stoker.queue.reads.doctor import examine
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.events import follow_all, latest
from stoker.queue.reads.reader import PAGE, SETS, Reader
from stoker.queue.reaping import Reaped, added, reap_host
from stoker.queue.schedules import Schedules
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import ask
from stoker.rules.history import Event
from stoker.rules.identity import Holder, decode_holder
from stoker.rules.losses import LossCause
from stoker.rules.states import TaskState

PURGED_AT_ONCE = 200
IDS_AT_ONCE = 10_000


class Cancellation(StrEnum):
    """The result of cancelling a task."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"  # it runs; its worker learns of it by its next heartbeat
    OVER = "over"  # it had ended already
    UNKNOWN = "unknown"


class Inspector(Reader):
    """Reads and operates on the queues of one namespace. All methods raise RedisUnavailable or RedisRefused."""

    async def redrive(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Make dead tasks ready again, with fresh attempts. Returns the ids of those that were dead."""
        return await self._dead_call("redrive", queue, ids)

    async def redrive_all(
        self, queue: str, *, task: str = "", failure: str = "", per_second: float = 0.0, limit: int | None = None
    ) -> AsyncIterator[list[str]]:
        """Redrive dead tasks with this name and type of failure (empty = any), the longest dead first, page by page.

        At most `per_second` (0 = unlimited) and `limit` in all. A task that dies again meanwhile is not redriven twice.
        Yields the ids of each page.
        """
        left, wanted = (
            limit,
            [
                task_id
                for partition in await self.partitions.names(queue)
                for task_id in await self._dead_matching(partition, task, failure)
            ],
        )
        for at in range(0, len(wanted), PAGE):
            page = wanted[at : at + PAGE] if left is None else wanted[at : at + min(PAGE, left)]
            if not page:
                return
            redriven = await self.redrive(queue, page)
            left = None if left is None else left - len(redriven)
            yield redriven
            if per_second:
                await asyncio.sleep(len(redriven) / per_second)

    async def delete(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Delete dead tasks. Returns the ids of those that were dead."""
        return await self._dead_call("discard", queue, ids)

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
        return not await self._set_paused(queue, paused=True)

    async def resume(self, queue: str) -> bool:
        """Let workers fetch again. Returns False if the queue was not paused."""
        return await self._set_paused(queue, paused=False)

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
        return decode_holder(claim) if claim else None

    async def purge(self, queue: str, state: TaskState) -> AsyncIterator[int]:
        """Delete all tasks of one state, in bounded steps. Yields how many each step has deleted.

        Raises Invalid for running tasks: cancel them instead.
        """
        if state is TaskState.RUNNING:
            raise Invalid("running tasks cannot be purged: cancel them, or pause the queue and wait")
        for partition in await self.partitions.names(queue):
            for key in reversed(SETS[state]):  # parked ones first: deleting the others would make them ready
                call = ScriptCall("purge", self._keys(partition), [key, PURGED_AT_ONCE])
                while gone := (await scripts.run(self._redis, call))[0]:
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
        for partition in await self.partitions.names(queue):
            async for finding in examine(self._redis, self._keys(partition), mend=mend):
                yield finding

    def schedules(self, queue: str) -> Schedules:
        """The schedules of a queue."""
        return Schedules(self._redis, self._keys(queue))

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
