"""What the doctor finds."""

from typing import Any, NamedTuple, cast

from stoker.queue.connection import RedisClient, errors_mapped
from stoker.queue.keys import Keys


class Finding(NamedTuple):
    """One thing that is not as it should be: a task, or what `trouble` says of which `id`. `mended` where it was put right."""

    id: str
    trouble: str
    mended: bool


async def count(redis: RedisClient, keys: Keys) -> None:
    """One more was mended. The scripts of the doctor count for themselves."""
    with errors_mapped():
        await cast(Any, redis.hincrby(keys.stats, "mended", 1))
