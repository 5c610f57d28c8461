"""Logbooks of a queue: capped streams in its first partition, of decisions of the autoscaler and of acts of people.

An entry has one field, `e`, with JSON; its id is the time, by Redis' clock.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from stoker.autoscale import scaling_record
from stoker.autoscale.scaling_record import ScalingRecord, decode_record, encode_record
from stoker.errors import StokerError
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient, ask
from stoker.rules import audit
from stoker.rules.audit import Act, decode_act, encode_act
from stoker.rules.units import to_ms

T = TypeVar("T")
MOST_BYTES = 4 << 20
"""Of entries in one read."""
_log = logging.getLogger("stoker.queue")


async def record_decision(redis: RedisClient, keys: Keys, record: ScalingRecord) -> None:
    """Record a decision of the autoscaler. Raises RedisUnavailable or RedisRefused."""
    await ask(redis, "XADD", keys.decisions, "MAXLEN", scaling_record.MOST_KEPT, "*", "e", encode_record(record))


async def read_decisions(redis: RedisClient, keys: Keys, limit: int) -> list[ScalingRecord]:
    """The last decisions, newest first. Raises RedisUnavailable or RedisRefused."""
    return await _read(redis, keys, "decisions", limit, decode_record)


async def record_act(redis: RedisClient, keys: Keys, act: Act) -> None:
    """Record an act of a person. Raises nothing: the act is done, so that a failure is only logged."""
    try:
        await ask(redis, "XADD", keys.audit, "MAXLEN", "~", audit.MOST_KEPT, "*", "e", encode_act(act))
        await ask(redis, "PEXPIRE", keys.audit, to_ms(audit.KEPT_FOR))
    except StokerError as error:
        extra = {"act": act.act, "by": act.by, "count": act.count, "error": str(error)}
        _log.warning("done, but not recorded in the audit", extra=extra)


async def read_acts(redis: RedisClient, keys: Keys, limit: int) -> list[Act]:
    """The last acts, newest first. Raises RedisUnavailable or RedisRefused."""
    return await _read(redis, keys, "audit", limit, decode_act)


async def _read(redis: RedisClient, keys: Keys, book: str, limit: int, decode: Callable[[bytes, int], T | None]) -> list[T]:
    [flat] = await scripts.run(redis, ScriptCall("logbook", keys, [book, limit, MOST_BYTES]))
    found = [decode(entry, at) for at, entry in zip(_moments(flat[::2]), flat[1::2], strict=True)]
    return [each for each in found if each is not None]


def _moments(positions: Sequence[bytes]) -> list[int]:
    """Epoch ms in the ids of entries."""
    return [int(position.partition(b"-")[0]) for position in positions]
