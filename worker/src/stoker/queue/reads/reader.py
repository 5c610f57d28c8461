"""Reader: statistics, tasks and explanations of queues. `Inspector` adds the manual operations."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from stoker.errors import Ambiguous, Invalid, NotFound, RedisUnreadable, StokerError
from stoker.queue import scripts
from stoker.queue.catalogue import Catalogue
from stoker.queue.keys import Keys
from stoker.queue.partitions import Partitions
from stoker.queue.reads.statistics import read_stats, read_stats_each, read_totals, read_totals_each
from stoker.queue.reads.why import facts_of, why_call, with_circumstances
from stoker.queue.records import Page, QueueStats, TaskStatus
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient, Routed, ask, ask_everywhere
from stoker.redis.connect import connect
from stoker.redis.failures import errors_mapped, mapped
from stoker.rules.history import LogLine, PastFailure, Progress
from stoker.rules.identity import QueueId
from stoker.rules.losses import known_cause
from stoker.rules.message import Message, Success, decode
from stoker.rules.settle import Failure
from stoker.rules.states import TaskState
from stoker.rules.why import Explanation, explain

PAGE = 50
PART = 4 * 1024 * 1024
"""Bytes of tasks that are read at a time, of a single larger task more: well below NARROW of `redis/reply_limit.py`."""
MOST_SEARCHED = 1000
"""Partitions that are searched for a task whose queue is not named."""
UNREADABLE = "(unreadable envelope)"

SETS: Mapping[TaskState, tuple[str, ...]] = {
    TaskState.READY: ("suspects", "ready", "parked", "unclaimed"),
    TaskState.RUNNING: ("leases",),
    TaskState.SCHEDULED: ("scheduled",),
    TaskState.DEAD: ("dead",),
    TaskState.SUCCEEDED: ("done",),
    TaskState.CANCELLED: ("cancelled",),
}
"""The sorted sets of `Keys` whose members are in a state."""

_STATES = {
    "scheduled": TaskState.SCHEDULED,
    "ready": TaskState.READY,
    "running": TaskState.RUNNING,
    "dead": TaskState.DEAD,
    "succeeded": TaskState.SUCCEEDED,
    "cancelled": TaskState.CANCELLED,
}
_failure = msgspec.json.Decoder(Failure)
_success = msgspec.json.Decoder(Success)
_past = msgspec.json.Decoder(PastFailure)
_progress = msgspec.json.Decoder(Progress)
_line = msgspec.json.Decoder(LogLine)


class Reader:
    """Reads the queues of one namespace. All methods raise RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, namespace: str) -> None:
        self.partitions = Partitions(redis, namespace)
        self.catalogue = Catalogue(redis, namespace)
        self._redis = redis
        self._namespace = namespace

    @classmethod
    def at(cls, url: str, namespace: str) -> Self:
        """A reader with its own connection, made on first use. Raises Invalid for a malformed URL."""
        return cls(connect(url), namespace)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def ping(self) -> None:
        """Raises RedisUnavailable unless every master answers."""
        await ask_everywhere(self._redis, "PING")

    async def queues(self) -> list[str]:
        """The names of all partitions in this namespace, sorted."""
        return await self.catalogue.names()

    async def stats(self, queues: Sequence[str], horizon: float = 0.0) -> list[QueueStats]:
        """Statistics of these partitions, in one round trip. `due` counts what falls due within `horizon` seconds."""
        return await read_stats(self._redis, [QueueId(self._namespace, queue) for queue in queues], horizon)

    async def stats_each(self, queues: Sequence[str], horizon: float = 0.0) -> list[QueueStats | StokerError]:
        """As `stats`, with the error of a partition that cannot be read in its place: one broken queue hides no other."""
        return await read_stats_each(self._redis, [QueueId(self._namespace, queue) for queue in queues], horizon)

    async def totals(self, queues: Sequence[Sequence[str]], horizon: float = 0.0) -> list[QueueStats]:
        """Statistics of whole queues, in one round trip. A queue is given as the names of its partitions."""
        named = [[QueueId(self._namespace, partition) for partition in partitions] for partitions in queues]
        return await read_totals(self._redis, named, [horizon] * len(named))

    async def totals_each(self, queues: Sequence[Sequence[str]], horizon: float = 0.0) -> list[QueueStats | StokerError]:
        """As `totals`, with the error of a queue that cannot be read in its place."""
        named = [[QueueId(self._namespace, partition) for partition in partitions] for partitions in queues]
        return await read_totals_each(self._redis, named, [horizon] * len(named))

    async def task(self, queue: str, task_id: str) -> TaskStatus:
        """One task. Raises NotFound for an unknown id, or one whose retention is over."""
        found = await self._in_any(await self.partitions.names(queue), task_id)
        if found is None:
            raise _not_found(queue, task_id)
        return found

    async def find(self, task_id: str) -> TaskStatus:
        """One task, searched for in all queues. Raises NotFound, Ambiguous if several have one, Invalid for too many queues."""
        names = await self.queues()
        if len(names) > MOST_SEARCHED:
            raise Invalid(f"there are more than {MOST_SEARCHED} queues to search for task {task_id!r}: name its queue", "queue")
        partitions = await self._having(names, task_id)
        queues = {name.partition(":")[0] for name in partitions}  # without the numbers of partitions
        if len(queues) > 1:
            raise Ambiguous(f"several queues have a task {task_id!r}: {', '.join(sorted(queues))}. Name its queue")
        found = await self._in_any(partitions, task_id)
        if found is None:
            raise NotFound(f"no queue has a task {task_id!r}: it was never there, or its retention is over")
        return found

    async def explain(self, queue: str, task_id: str) -> Explanation:
        """Why a task is in its state, and when it is expected to end. Raises NotFound."""
        partitions = await self.partitions.names(queue)
        calls = [[self._task_call(name, [task_id], logs=True), why_call(self._keys(name), task_id)] for name in partitions]
        replies = await scripts.run(self._redis, *(call for pair in calls for call in pair))
        for name, [found], circumstances in zip(partitions, replies[::2], replies[1::2], strict=True):
            if found:
                return explain(with_circumstances(facts_of(_status(name, task_id, found)), circumstances))
        raise _not_found(queue, task_id)

    async def tasks(self, queue: str, state: TaskState, cursor: int = 0, limit: int = PAGE) -> Page:
        """A page of tasks in one state: ready in the order they will run, scheduled by due time, ended newest first."""
        ids: list[bytes] = []
        first = cursor
        for name in SETS[state]:
            key = getattr(self._keys(queue), name)
            last = first + limit - len(ids) - 1
            command = "ZREVRANGE" if state.final else "ZRANGE"
            found = await ask(self._redis, command, key, first, last) if last >= first else []
            first = max(0, first - await ask(self._redis, "ZCARD", key))
            ids += found
        found_tasks = await self._tasks(queue, [task_id.decode() for task_id in ids])
        return Page(found_tasks, cursor + limit if len(ids) == limit else None)

    async def _in_any(self, partitions: Sequence[str], task_id: str) -> TaskStatus | None:
        calls = [self._task_call(name, [task_id], logs=True) for name in partitions]
        replies = await scripts.run(self._redis, *calls) if calls else []
        found = (_status(name, task_id, reply) for name, [reply] in zip(partitions, replies, strict=True) if reply)
        return next(found, None)

    async def _having(self, partitions: Sequence[str], task_id: str) -> list[str]:
        """The partitions that have a task of this id."""
        keys = [self._keys(name).tasks for name in partitions]
        with errors_mapped():
            replies = await self._redis.round_trip([Routed(key, ("HEXISTS", key, task_id)) for key in keys]) if keys else []
        if error := next((reply for reply in replies if isinstance(reply, Exception)), None):
            raise mapped(error) from error
        return [name for name, reply in zip(partitions, replies, strict=True) if reply]

    async def _tasks(self, queue: str, ids: Sequence[str]) -> list[TaskStatus]:
        """Those of these tasks that exist, read in parts."""
        found: list[TaskStatus] = []
        while ids:
            [part] = await scripts.run(self._redis, self._task_call(queue, ids))
            if not part:
                raise RedisUnreadable("the reply to a read of tasks has none: is this Redis, and Stoker's?")
            found += [_status(queue, task_id, reply) for task_id, reply in zip(ids, part, strict=False) if reply]
            ids = ids[len(part) :]
        return found

    def _task_call(self, partition: str, ids: Sequence[str], *, logs: bool = False) -> ScriptCall:
        return ScriptCall("task", self._keys(partition), [int(logs), PART, *ids])

    def _keys(self, queue: str) -> Keys:
        return Keys(self._namespace, queue)


def _status(queue: str, task_id: str, reply: Sequence[Any]) -> TaskStatus:
    envelope, state, at, fence, failures, losses, failure, result, parked, history, progress, logs, unclaimed = reply
    if state == b"nowhere":
        raise NotFound(f"task {task_id!r} is in no state of queue {queue!r}: stoker doctor {queue} --mend makes it ready again")
    try:
        message = decode(envelope)
    except Invalid:
        # A worker buries it; a list of dead tasks must show it among the others.
        message = Message(task_id, UNREADABLE, msgspec.Raw(b"{}"), queue, 0)
    return TaskStatus(
        id=message.id,
        task=message.task,
        queue=queue.partition(":")[0],  # where it was found: acts on it go there, whatever its envelope says
        state=_STATES[state.decode()],
        priority=message.priority,
        created=message.created,
        attempts=int(failures),
        losses=int(losses),
        payload=_alone(message.payload, envelope),
        at=int(at) or None,
        worker=fence.decode().split(":", 2)[1] if fence else None,
        failure=_failure.decode(failure) if failure else None,
        result=_success.decode(result) if result else None,
        parked=parked.decode() or None,
        unclaimed=unclaimed or None,
        headers=message.headers,
        expires=message.expires,
        history=[_past_failure(line) for line in history.split(b"\n") if line],
        progress=_progress.decode(progress) if progress else None,
        log=[_line.decode(line) for line in logs.split(b"\n") if line],
    )


def _alone(payload: msgspec.Raw, envelope: bytes) -> msgspec.Raw:
    """The payload without the envelope that it is a view of, if that is much larger: it may carry a workflow of 8 MiB."""
    return payload.copy() if len(envelope) > 2 * len(bytes(payload)) + 1024 else payload


def _past_failure(line: bytes) -> PastFailure:
    past = _past.decode(line)
    return past if past.cause is None else msgspec.structs.replace(past, cause=known_cause(past.cause))


def _not_found(queue: str, task_id: str) -> NotFound:
    return NotFound(f"queue {queue!r} has no task {task_id!r}: it was never there, or its retention is over")
