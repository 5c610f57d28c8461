"""Tallies of a queue: what its workers flush once a minute, and the records made of them, in the queue's first partition."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.redis.client import RedisClient, ask
from stoker.rules.tally import (
    FORMAT,
    KEPT,
    MOST_NAMES,
    MOST_VERSIONS,
    OTHER,
    RINGS,
    Period,
    Ring,
    Slo,
    Tally,
    VersionRecord,
    count_of,
    periods,
    versions,
)
from stoker.rules.units import to_ms

PLACES = 256
"""In these the last flush of each worker is remembered. Two workers of one place can only make a repeated flush count twice."""
MOST_BYTES = 8 << 20
"""Of periods in one read. A full ring of 50 names takes about 4 MB."""
_encode = msgspec.msgpack.Encoder().encode


class Flush(NamedTuple):
    """What a worker process adds: `number` counts its flushes, so that a repeated one is recognized."""

    worker: str
    number: int
    version: str
    tasks: Mapping[str, Tally]
    total: Tally
    started: int = 0
    in_time: int = 0


class Records(NamedTuple):
    """What is recorded of a queue, oldest first. `periods`: of one ring."""

    periods: list[Period]
    versions: list[VersionRecord]
    slo: Slo


async def add_tallies(redis: RedisClient, keys: Keys, flush: Flush) -> float | None:
    """Add them. Returns the queue's max_wait in seconds, None if none is set. Safe to repeat.

    Raises RedisUnavailable or RedisRefused; RedisFull, with nothing added, where Redis is at its maxmemory.
    """
    place = crc32(flush.worker.encode()) % PLACES
    slo = (flush.started, flush.in_time)
    bounds = (FORMAT, MOST_NAMES, OTHER, MOST_VERSIONS, to_ms(KEPT))
    tallies = (_encode(flush.tasks), _encode(flush.total))
    arguments = [flush.worker, flush.number, place, flush.version, *tallies, *slo, *bounds, *_fields(*RINGS)]
    [max_wait] = await scripts.run(redis, ScriptCall("tally", keys, arguments))
    return max_wait / 1000 if max_wait >= 0 else None


async def read_records(redis: RedisClient, keys: Keys, ring: Ring | None = None) -> Records:
    """Read them, with the periods of this ring. Values that no worker wrote read as if they were not there.

    Raises RedisUnavailable or RedisRefused.
    """
    wanted = [ring] if ring else []
    [reply] = await scripts.run(redis, ScriptCall("tallies", keys, [MOST_BYTES, MOST_VERSIONS, *_fields(*wanted)]))
    now, max_wait, started, in_time, kept, *values = reply
    return Records(periods(ring, now, values[0]) if ring else [], versions(kept), _slo(max_wait, started, in_time))


async def set_max_wait(redis: RedisClient, keys: Keys, seconds: float | None) -> None:
    """Set the wait that runs are to start within; None: count no more. Workers learn of it by their next flush."""
    if seconds is None:
        await ask(redis, "HDEL", keys.meta, "max_wait")
    else:
        await ask(redis, "HSET", keys.meta, "max_wait", to_ms(seconds))


def _fields(*rings: Ring) -> list[Argument]:
    return [part for ring in rings for part in (ring.prefix, ring.seconds * 1000, ring.slots)]


def _slo(max_wait: Any, started: Any, in_time: Any) -> Slo:
    known = isinstance(max_wait, bytes) and max_wait.isdigit()
    return Slo(count_of(max_wait) / 1000 if known else None, count_of(started), min(count_of(in_time), count_of(started)))
