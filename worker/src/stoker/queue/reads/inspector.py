"""Every read of a queue, and what a person may do to it. Shared by gateway, command line and operator."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from enum import StrEnum

from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.reads.doctor import examine
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.events import follow_all, latest
from stoker.queue.reads.reader import PAGE, SETS, Reader
from stoker.queue.reaping import Reaped, added, reap_host
from stoker.queue.schedules import Schedules
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import ask
from stoker.rules.history import Event
from stoker.rules.states import TaskState

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
        return await self._dead_call("redrive", queue, ids)

    async def redrive_all(
        self, queue: str, *, task: str = "", failure: str = "", per_second: float = 0.0, limit: int | None = None
    ) -> AsyncIterator[list[str]]:
        """Redrive dead tasks of one name and one type of failure (empty = any), the longest dead first, page by page.

        At most `per_second` (0 = as fast as it goes). Those that die again meanwhile are not taken a second time.
        Yields the ids as they go.
        """
        left, wanted = (
            limit,
            [
                task_id
                for place in await self.partitions.places(queue)
                for task_id in await self._dead_matching(place, task, failure)
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
        """Remove dead tasks for good. Returns those that were dead."""
        return await self._dead_call("discard", queue, ids)

    async def cancel(self, queue: str, ids: Sequence[str]) -> list[Cancellation]:
        """Cancel tasks: waiting ones at once, running ones when their worker hears of it with its next heartbeat."""
        pages = [list(ids[at : at + PAGE]) for at in range(0, len(ids), PAGE)]
        answers = [Cancellation.UNKNOWN] * len(ids)
        for place in await self.partitions.places(queue) if ids else []:
            replies = await scripts.run(self._redis, *(ScriptCall("cancel", self._keys(place), page) for page in pages))
            words = [Cancellation(word.decode()) for reply in replies for word in reply]
            answers = [before if word is Cancellation.UNKNOWN else word for before, word in zip(answers, words, strict=True)]
        return answers

    async def reap_worker(self, queue: str, host: str, max_lost: int) -> Reaped:
        """Give back at once what the worker processes of a pod (or machine) held. Only for one that was seen to end.

        Each of its deliveries counts as lost; a task lost `max_lost` times is buried.
        """
        total = Reaped(0, 0, 0)
        for place in await self.partitions.places(queue):
            total = added(total, await reap_host(self._redis, self._keys(place), host, max_lost))
        return total

    async def pause(self, queue: str) -> bool:
        """Let workers fetch nothing more; what runs goes on. Returns whether that is news."""
        return not await self._set_paused(queue, paused=True)

    async def resume(self, queue: str) -> bool:
        """Let them fetch again. Returns whether that is news."""
        return await self._set_paused(queue, paused=False)

    async def purge(self, queue: str, state: TaskState) -> AsyncIterator[int]:
        """Remove all tasks of one state for good, in bounded steps. Yields how many went with each.

        Raises Invalid for running ones: they have to be cancelled.
        """
        if state is TaskState.RUNNING:
            raise Invalid("running tasks cannot be purged: cancel them, or pause the queue and wait")
        for partition in await self.partitions.places(queue):
            for place in reversed(SETS[state]):  # parked ones first, or they would come back in line
                call = ScriptCall("purge", self._keys(partition), [place, PURGED_AT_ONCE])
                while gone := (await scripts.run(self._redis, call))[0]:
                    yield gone

    async def events(self, queue: str, after: str | None = None) -> AsyncGenerator[Event, None]:
        """What happens in a queue from now on, or after an event's `position`, until the caller has had enough."""
        places = [self._keys(place) for place in await self.partitions.places(queue)]
        async with aclosing(follow_all(self._redis, places, after)) as events:
            async for event in events:
                yield event

    async def latest_events(self, queue: str, limit: int = PAGE) -> list[Event]:
        """What happened last, oldest first, as far as somebody watched then."""
        places = [self._keys(place) for place in await self.partitions.places(queue)]
        found = [event for place in places for event in await latest(self._redis, place, limit)]
        return sorted(found, key=lambda event: event.at)[-limit:]

    async def examine(self, queue: str, *, mend: bool = False) -> AsyncIterator[Finding]:
        """What is wrong in a queue, if anything: see `doctor`."""
        for place in await self.partitions.places(queue):
            async for finding in examine(self._redis, self._keys(place), mend=mend):
                yield finding

    def schedules(self, queue: str) -> Schedules:
        """The schedules of a queue: to read, to declare, and to start what is due."""
        return Schedules(self._redis, self._keys(queue))

    async def _set_paused(self, queue: str, *, paused: bool) -> bool:
        places = [self._keys(place) for place in await self.partitions.places(queue)]
        calls = [ScriptCall("pause", keys, [int(paused)]) for keys in places]
        before = await scripts.run(self._redis, *calls)
        return all(before) if paused else any(before)

    async def _dead_matching(self, place: str, task: str, failure: str) -> list[str]:
        names = [task_id.decode() for task_id in await ask(self._redis, "ZRANGE", self._keys(place).dead, 0, -1)]
        if not task and not failure:
            return names
        found: list[str] = []
        for at in range(0, len(names), PAGE):
            for status in await self._tasks(place, names[at : at + PAGE]):
                kind = status.failure.type if status.failure else ""
                if status.state is TaskState.DEAD and task in ("", status.task) and failure in ("", kind):
                    found.append(status.id)
        return found

    async def _dead_call(self, script: str, queue: str, ids: Sequence[str]) -> list[str]:
        places = await self.partitions.places(queue) if ids else []
        pages = [list(ids[at : at + PAGE]) for at in range(0, len(ids), PAGE)]
        calls = [ScriptCall(script, self._keys(place), page) for place in places for page in pages]
        replies = await scripts.run(self._redis, *calls) if calls else []
        return [task_id.decode() for reply in replies for task_id in reply]
