"""Every read of a queue, and what a person may do to it. Shared by gateway, command line and operator."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Any, cast

from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.connection import errors_mapped
from stoker.queue.doctor import Finding, examine
from stoker.queue.reader import PAGE, Page, QueueStats, Reader, TaskStatus
from stoker.queue.scripts import Call
from stoker.rules.states import State

__all__ = ["PAGE", "Cancellation", "Finding", "Inspector", "Page", "QueueStats", "TaskStatus"]

PURGED_AT_ONCE = 200


class Cancellation(StrEnum):
    """What became of the wish to cancel a task."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"  # it runs; its worker will hear of it
    OVER = "over"  # it had ended before
    UNKNOWN = "unknown"


class Inspector(Reader):
    """Reads and repairs the queues of one namespace. All methods raise RedisUnavailable or RedisRefused."""

    async def redrive(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Give dead tasks another life. Returns those that were dead."""
        k = self._keys(queue)
        return await self._dead_call("redrive", (k.dead, k.ready, k.attempts, k.lost, k.levels, k.meta, k.stats, k.wake), ids)

    async def redrive_all(
        self, queue: str, *, task: str = "", failure: str = "", per_second: float = 0.0, limit: int | None = None
    ) -> AsyncIterator[list[str]]:
        """Redrive dead tasks of one name and one type of failure (empty = any), the longest dead first, page by page.

        At most `per_second` (0 = as fast as it goes). Those that die again meanwhile are not taken a second time.
        Yields the ids as they go.
        """
        until, left = await self._newest_death(queue), limit
        wanted = await self._dead_matching(queue, task, failure, until)
        for at in range(0, len(wanted), PAGE):
            page = wanted[at : at + PAGE] if left is None else wanted[at : at + min(PAGE, left)]
            if not page:
                return
            redriven = await self.redrive(queue, page)
            left = None if left is None else left - len(redriven)
            yield redriven
            if per_second:
                await asyncio.sleep(len(redriven) / per_second)

    async def discard(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Remove dead tasks for good. Returns those that were dead."""
        k = self._keys(queue)
        columns = (k.tasks, k.attempts, k.lost, k.levels, k.errors, k.limits)
        return await self._dead_call("discard", (k.dead, k.members, k.outbox, *columns), ids)

    async def cancel(self, queue: str, ids: Sequence[str]) -> list[Cancellation]:
        """Cancel tasks: waiting ones at once, running ones when their worker hears of it with its next heartbeat."""
        k = self._keys(queue)
        places = (k.ready, k.suspects, k.scheduled, k.leases, k.cancelled, k.cancels)
        columns = (k.tasks, k.attempts, k.lost, k.levels, k.errors)
        keys = (*places, *columns, k.meta, k.stats, k.uniques, k.claims, k.wake, k.members, k.outbox, *k.parking)
        calls = [Call("cancel", keys, list(ids[at : at + PAGE])) for at in range(0, len(ids), PAGE)]
        replies = await scripts.run(self._redis, *calls) if calls else []
        return [Cancellation(word.decode()) for reply in replies for word in reply]

    async def pause(self, queue: str) -> bool:
        """Let workers fetch nothing more; what runs goes on. Returns whether that is news."""
        return not await self._set_paused(queue, paused=True)

    async def resume(self, queue: str) -> bool:
        """Let them fetch again. Returns whether that is news."""
        return await self._set_paused(queue, paused=False)

    async def purge(self, queue: str, state: State) -> AsyncIterator[int]:
        """Remove all tasks of one state for good, in bounded steps. Yields how many went with each.

        Raises Invalid for running ones: they have to be cancelled.
        """
        if state is State.RUNNING:
            raise Invalid("running tasks cannot be purged: cancel them, or pause the queue and wait")
        k = self._keys(queue)
        for place in reversed(self._places(queue, state)):  # parked ones first, or they would come back in line
            line = (k.ready, k.suspects, k.wake)
            columns = (k.tasks, k.attempts, k.lost, k.levels, k.errors, k.results)
            call = Call("purge", (place, *line, k.uniques, k.claims, *columns, k.members, k.outbox, *k.parking), [PURGED_AT_ONCE])
            while gone := (await scripts.run(self._redis, call))[0]:
                yield gone

    def examine(self, queue: str, *, mend: bool = False) -> AsyncIterator[Finding]:
        """What is wrong in a queue, if anything: see `doctor`."""
        return examine(self._redis, self._keys(queue), mend=mend)

    async def _set_paused(self, queue: str, *, paused: bool) -> bool:
        k = self._keys(queue)
        call = Call("pause", (k.meta, k.ready, k.suspects, k.scheduled, k.wake), [int(paused)])
        return bool((await scripts.run(self._redis, call))[0])

    async def _newest_death(self, queue: str) -> float:
        with errors_mapped():
            newest = await cast(Any, self._redis.zrange(self._keys(queue).dead, 0, 0, desc=True, withscores=True))
        return float(newest[0][1]) if newest else 0.0

    async def _dead_matching(self, queue: str, task: str, failure: str, until: float) -> list[str]:
        with errors_mapped():
            ids = await cast(Any, self._redis.zrangebyscore(self._keys(queue).dead, "-inf", until))
        names = [task_id.decode() for task_id in ids]
        if not task and not failure:
            return names
        found: list[str] = []
        for at in range(0, len(names), PAGE):
            for status in await self._tasks(queue, names[at : at + PAGE]):
                kind = status.failure.type if status.failure else ""
                if status.state is State.DEAD and task in ("", status.task) and failure in ("", kind):
                    found.append(status.id)
        return found

    async def _dead_call(self, script: str, keys: Sequence[str], ids: Sequence[str]) -> list[str]:
        parts = [Call(script, keys, list(ids[at : at + PAGE])) for at in range(0, len(ids), PAGE)]
        replies = await scripts.run(self._redis, *parts) if parts else []
        return [task_id.decode() for reply in replies for task_id in reply]
