"""Finding: what the doctor yields."""

from typing import NamedTuple

from stoker.queue.keys import Keys
from stoker.redis.client import RedisClient, ask


class Finding(NamedTuple):
    """One damaged item: `id` of a task or of what `trouble` names. `mended` if it was repaired."""

    id: str
    trouble: str
    mended: bool


async def count(redis: RedisClient, keys: Keys) -> None:
    """Count a repair made here. The doctor's scripts count their own."""
    await ask(redis, "HINCRBY", keys.stats, "mended", 1)
