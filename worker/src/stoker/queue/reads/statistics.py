"""Statistics of queues, read defensively: a field that another program wrote is a finding of that queue, never an exception."""

from collections.abc import Sequence
from typing import Any

from stoker.errors import RedisUnreadable, StokerError
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.records import QueueStats, Totals
from stoker.queue.scripts import ScriptCall, chunks
from stoker.redis.client import RedisClient
from stoker.rules.identity import QueueId

STATISTICS_AT_ONCE = 1000
"""Partitions whose statistics are read at a time."""
MAX_COUNT = 2**63 - 1
"""The largest number that a counter of Redis holds."""
MOST_OF_ANYTHING = 2**53
"""More tasks, or milliseconds, no queue has. Fits a status of the API server, also summed over partitions."""
_STORED_AS = {"dead": "buried", "cancelled": "stopped", "snoozed": "postponed"}
_COLUMNS = {name: _STORED_AS.get(name, name).encode() for name in Totals.__struct_fields__}
"""Each counter's column in the statistics of a queue."""


async def read_stats(redis: RedisClient, partitions: Sequence[QueueId], horizon: float = 0.0) -> list[QueueStats]:
    """As Reader.stats, for partitions of any namespaces."""
    return await _read_stats(redis, partitions, [horizon] * len(partitions))


async def _read_stats(redis: RedisClient, partitions: Sequence[QueueId], horizons: Sequence[float]) -> list[QueueStats]:
    calls = _stats_calls(partitions, horizons)
    replies = [reply for part in chunks(calls, STATISTICS_AT_ONCE) for reply in await scripts.run(redis, *part)]
    return [_stats(partition.name, reply) for partition, reply in zip(partitions, replies, strict=True)]


def _stats_calls(partitions: Sequence[QueueId], horizons: Sequence[float]) -> list[ScriptCall]:
    return [
        ScriptCall("stats", Keys(*partition), [round(horizon * 1000), *_COLUMNS.values()])
        for partition, horizon in zip(partitions, horizons, strict=True)
    ]


async def read_totals(redis: RedisClient, queues: Sequence[Sequence[QueueId]], horizons: Sequence[float] = ()) -> list[QueueStats]:
    """As Reader.totals, for queues of any namespaces, each with a horizon of its own; default: 0."""
    found = iter(await _read_stats(redis, *_apart(queues, horizons)))
    return [together([next(found) for _ in partitions]) for partitions in queues]


async def read_stats_each(
    redis: RedisClient, partitions: Sequence[QueueId], horizon: float = 0.0
) -> list[QueueStats | StokerError]:
    """As Reader.stats_each, for partitions of any namespaces."""
    return await _read_stats_each(redis, partitions, [horizon] * len(partitions))


async def _read_stats_each(
    redis: RedisClient, partitions: Sequence[QueueId], horizons: Sequence[float]
) -> list[QueueStats | StokerError]:
    calls = _stats_calls(partitions, horizons)
    replies = [reply for part in chunks(calls, STATISTICS_AT_ONCE) for reply in await scripts.run_each(redis, *part)]
    return [_stats_or_error(partition.name, reply) for partition, reply in zip(partitions, replies, strict=True)]


async def read_totals_each(
    redis: RedisClient, queues: Sequence[Sequence[QueueId]], horizons: Sequence[float] = ()
) -> list[QueueStats | StokerError]:
    """As Reader.totals_each, for queues of any namespaces, each with a horizon of its own; default: 0."""
    found = iter(await _read_stats_each(redis, *_apart(queues, horizons)))
    return [_together_or_error([next(found) for _ in partitions]) for partitions in queues]


def _apart(queues: Sequence[Sequence[QueueId]], horizons: Sequence[float]) -> tuple[list[QueueId], list[float]]:
    """The partitions of all queues, and the horizon of each."""
    each = list(zip(queues, horizons or [0.0] * len(queues), strict=True))
    return [partition for partitions, _ in each for partition in partitions], [
        horizon for partitions, horizon in each for _ in partitions
    ]


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
    if not all(isinstance(number, int) and 0 <= number <= MOST_OF_ANYTHING for number in (*numbers, rate)):
        raise _unreadable(queue)
    if next_run != b"" and not (isinstance(next_run, int) and abs(next_run) <= MOST_OF_ANYTHING):
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
        if isinstance(template, bytes) and isinstance(count, int) and 0 <= count <= MOST_OF_ANYTHING
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
