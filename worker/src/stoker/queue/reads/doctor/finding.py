"""What the doctor finds."""

from typing import NamedTuple

from stoker.queue.keys import Keys
from stoker.redis.client import RedisClient, ask


class Finding(NamedTuple):
    """One thing that is not as it should be: a task, or what `trouble` says of which `id`. `mended` where it was put right."""

    id: str
    trouble: str
    mended: bool


async def count(redis: RedisClient, keys: Keys) -> None:
    """One more was mended. The scripts of the doctor count for themselves."""
    await ask(redis, "HINCRBY", keys.stats, "mended", 1)
