"""Reader: statistics, tasks and explanations of queues. `Inspector` adds the manual operations."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from stoker.errors import Ambiguous, Invalid, NotFound, RedisUnreadable, StokerError
from stoker.queue import scripts
from stoker.queue.keys import Keys, catalogue
from stoker.queue.partitions import Partitions
from stoker.queue.reads.why import facts_of, why_call, with_circumstances
from stoker.queue.records import Page, QueueStats, TaskStatus, Totals
from stoker.queue.scripts import ScriptCall, chunks
from stoker.redis.client import RedisClient, Routed, ask, ask_everywhere
from stoker.redis.connect import connect
from stoker.redis.failures import errors_mapped, mapped
from stoker.rules.history import LogLine, PastFailure, Progress
from stoker.rules.identity import QueueId
from stoker.rules.message import Message, Success, decode
from stoker.rules.partitions import is_partition
from stoker.rules.settle import Failure
from stoker.rules.states import TaskState
from stoker.rules.why import Explanation, explain

PAGE = 50
PART = 4 * 1024 * 1024
"""Bytes of tasks that are read at a time, of a single larger task more: well below NARROW of `redis/reply_limit.py`."""
STATISTICS_AT_ONCE = 1000
"""Partitions whose statistics are read at a time."""
MAX_COUNT = 2**63 - 1
"""The largest number that a counter of Redis holds."""
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
_STORED_AS = {"dead": "buried", "cancelled": "stopped", "snoozed": "postponed"}
_COLUMNS = {name: _STORED_AS.get(name, name).encode() for name in Totals.__struct_fields__}
"""Each counter's column in the statistics of a queue."""
_failure = msgspec.json.Decoder(Failure)
_success = msgspec.json.Decoder(Success)
_past = msgspec.json.Decoder(PastFailure)
_progress = msgspec.json.Decoder(Progress)
_line = msgspec.json.Decoder(LogLine)


class Reader:
    """Reads the queues of one namespace. All methods raise RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, namespace: str) -> None:
        self.partitions = Partitions(redis, namespace)
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
        """The names of all partitions ever used in this namespace, sorted."""
        names = await ask(self._redis, "SMEMBERS", catalogue(self._namespace))
        if not isinstance(names, list):
            raise RedisUnreadable("the catalogue of queues is none that Stoker wrote: is this Redis, and Stoker's?")
        return sorted(name.decode() for name in names if isinstance(name, bytes) and is_partition(name))

    async def stats(self, queues: Sequence[str], horizon: float = 0.0) -> list[QueueStats]:
        """Statistics of these partitions, in one round trip. `due` counts what falls due within `horizon` seconds."""
        return await read_stats(self._redis, [QueueId(self._namespace, queue) for queue in queues], horizon)

    async def stats_each(self, queues: Sequence[str], horizon: float = 0.0) -> list[QueueStats | StokerError]:
        """As `stats`, with the error of a partition that cannot be read in its place: one broken queue hides no other."""
        return await read_stats_each(self._redis, [QueueId(self._namespace, queue) for queue in queues], horizon)

    async def totals(self, queues: Sequence[Sequence[str]], horizon: float = 0.0) -> list[QueueStats]:
        """Statistics of whole queues, in one round trip. A queue is given as the names of its partitions."""
        named = [[QueueId(self._namespace, partition) for partition in partitions] for partitions in queues]
        return await read_totals(self._redis, named, horizon)

    async def totals_each(self, queues: Sequence[Sequence[str]], horizon: float = 0.0) -> list[QueueStats | StokerError]:
        """As `totals`, with the error of a queue that cannot be read in its place."""
        named = [[QueueId(self._namespace, partition) for partition in partitions] for partitions in queues]
        return await read_totals_each(self._redis, named, horizon)

    async def task(self, queue: str, task_id: str) -> TaskStatus:
        """One task. Raises NotFound for an unknown id, or one whose retention is over."""
        found = await self._in_any(await self.partitions.names(queue), task_id)
        if found is None:
            raise _not_found(queue, task_id)
        return found

    async def find(self, task_id: str) -> TaskStatus:
        """One task, searched for in all queues. Raises NotFound, and Ambiguous if several queues have one of this id."""
        partitions = await self._having(await self.queues(), task_id)
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


async def read_stats(redis: RedisClient, partitions: Sequence[QueueId], horizon: float = 0.0) -> list[QueueStats]:
    """As Reader.stats, for partitions of any namespaces."""
    calls = _stats_calls(partitions, horizon)
    replies = [reply for part in chunks(calls, STATISTICS_AT_ONCE) for reply in await scripts.run(redis, *part)]
    return [_stats(partition.name, reply) for partition, reply in zip(partitions, replies, strict=True)]


def _stats_calls(partitions: Sequence[QueueId], horizon: float) -> list[ScriptCall]:
    return [ScriptCall("stats", Keys(*partition), [round(horizon * 1000)]) for partition in partitions]


async def read_totals(redis: RedisClient, queues: Sequence[Sequence[QueueId]], horizon: float = 0.0) -> list[QueueStats]:
    """As Reader.totals, for queues of any namespaces."""
    found = iter(await read_stats(redis, [partition for partitions in queues for partition in partitions], horizon))
    return [together([next(found) for _ in partitions]) for partitions in queues]


async def read_stats_each(
    redis: RedisClient, partitions: Sequence[QueueId], horizon: float = 0.0
) -> list[QueueStats | StokerError]:
    """As Reader.stats_each, for partitions of any namespaces."""
    calls = _stats_calls(partitions, horizon)
    replies = [reply for part in chunks(calls, STATISTICS_AT_ONCE) for reply in await scripts.run_each(redis, *part)]
    return [_stats_or_error(partition.name, reply) for partition, reply in zip(partitions, replies, strict=True)]


async def read_totals_each(
    redis: RedisClient, queues: Sequence[Sequence[QueueId]], horizon: float = 0.0
) -> list[QueueStats | StokerError]:
    """As Reader.totals_each, for queues of any namespaces."""
    found = iter(await read_stats_each(redis, [partition for partitions in queues for partition in partitions], horizon))
    return [_together_or_error([next(found) for _ in partitions]) for partitions in queues]


def together(parts: Sequence[QueueStats]) -> QueueStats:
    """The sum over the partitions of one queue. Every worker serves all of them, so workers are not added up."""
    if len(parts) == 1:
        return parts[0]
    apart = {"queue", "next_run", "totals", "unseen"}
    sums = {name: sum(getattr(part, name) for part in parts) for name in QueueStats.__struct_fields__ if name not in apart}
    return QueueStats(
        **{
            **sums,
            "queue": parts[0].queue,
            "totals": added([part.totals for part in parts]),
            "unseen": _unseen(parts),
            "oldest_wait": max(part.oldest_wait for part in parts),
            "workers": max(part.workers for part in parts),
            "paused": all(part.paused for part in parts),
            "throttled": any(part.throttled for part in parts),
            "next_run": min((part.next_run for part in parts if part.next_run is not None), default=None),
        }
    )


def _unseen(parts: Sequence[QueueStats]) -> dict[str, int]:
    templates = {template for part in parts for template in part.unseen}
    return {template: sum(part.unseen_by(template) for part in parts) for template in templates}


def added(totals: Sequence[Totals]) -> Totals:
    """The sum of several queues' counters."""
    return Totals(*(sum(getattr(each, name) for each in totals) for name in Totals.__struct_fields__))


def _stats(queue: str, reply: Any) -> QueueStats:
    """The statistics in a reply of any type. Raises RedisUnreadable unless it has the shape that stats.lua returns."""
    if not isinstance(reply, list) or len(reply) < 18:
        raise _unreadable(queue)
    numbers, next_run, seen, (rate, _now), counters = reply[:14], reply[14], reply[15], reply[16:18], reply[18:]
    if not all(isinstance(number, int) for number in (*numbers, rate)):
        raise _unreadable(queue)
    if next_run != b"" and not isinstance(next_run, int):
        raise _unreadable(queue)
    ready, running, scheduled, dead, succeeded, cancelled, due, oldest_ms, workers, *flags = numbers
    paused, throttled, parked, schedules, unclaimed = flags
    return QueueStats(
        *(queue, ready, running, scheduled, dead, succeeded, cancelled, due),
        oldest_wait=oldest_ms / 1000,
        workers=workers,
        paused=bool(paused),
        completion_rate=rate / 1000,
        throttled=bool(throttled),
        parked=parked,
        schedules=schedules,
        next_run=None if next_run == b"" else next_run / 1000,
        totals=_totals(counters),
        unclaimed=unclaimed,
        unseen=_unseen_of(seen),
    )


def _stats_or_error(queue: str, reply: Any) -> QueueStats | StokerError:
    if isinstance(reply, StokerError):
        return reply
    try:
        return _stats(queue, reply)
    except RedisUnreadable as error:
        return error


def _together_or_error(parts: Sequence[QueueStats | StokerError]) -> QueueStats | StokerError:
    read = [part for part in parts if isinstance(part, QueueStats)]
    return together(read) if len(read) == len(parts) else next(part for part in parts if isinstance(part, StokerError))


def _unseen_of(flat: Any) -> dict[str, int]:
    """By template, how many unclaimed tasks it has not seen. What is unreadable, since another program wrote it, is left out."""
    pairs = zip(flat[::2], flat[1::2], strict=False) if isinstance(flat, list) else ()
    return {
        template.decode(errors="replace"): count
        for template, count in pairs
        if isinstance(template, bytes) and isinstance(count, int)
    }


def _totals(flat: Sequence[Any]) -> Totals:
    """The counters of a queue. What is no count, since another program wrote it, is 0: it must not hide the queue."""
    columns = dict(zip(flat[::2], flat[1::2], strict=False)) if all(isinstance(each, bytes) for each in flat) else {}
    return Totals(**{name: _count(columns[column]) for name, column in _COLUMNS.items() if column in columns})


def _count(text: bytes) -> int:
    count = int(text) if text.isdigit() and len(text) <= len(str(MAX_COUNT)) else 0
    return count if count <= MAX_COUNT else 0


def _unreadable(queue: str) -> RedisUnreadable:
    return RedisUnreadable(f"the statistics of queue {queue!r} are none that a Stoker script returns: is this Redis, and Stoker's?")


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
        queue=message.queue,
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
        history=[_past.decode(line) for line in history.split(b"\n") if line],
        progress=_progress.decode(progress) if progress else None,
        log=[_line.decode(line) for line in logs.split(b"\n") if line],
    )


def _alone(payload: msgspec.Raw, envelope: bytes) -> msgspec.Raw:
    """The payload without the envelope that it is a view of, if that is much larger: it may carry a workflow of 8 MiB."""
    return payload.copy() if len(envelope) > 2 * len(bytes(payload)) + 1024 else payload


def _not_found(queue: str, task_id: str) -> NotFound:
    return NotFound(f"queue {queue!r} has no task {task_id!r}: it was never there, or its retention is over")
