"""The wake token: work that waits has one, or somebody who took it and is about to fetch."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient

PATIENCE = 2.0
"""Seconds for which tasks must wait and nothing happen. Whoever was woken fetches within a few ms."""
SLACK = 10.0
"""Seconds by which who watches the rate limit may be late: then another has taken over."""


async def wake(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """Tasks wait and nobody is woken for them, so that they wait until somebody looks by chance."""
    _, fence = await look(redis, keys)
    if fence < 0:
        return
    await asyncio.sleep(PATIENCE)
    _, still = await look(redis, keys, mend=mend, fence=fence)
    if still == fence:
        yield Finding(keys.queue, "tasks are ready, and nobody is woken for them", mend)


async def look(redis: RedisClient, k: Keys, *, mend: bool = False, fence: int | None = None) -> tuple[int, int]:
    """The queue's time in ms, and the fence counter where nobody is awake; -1 where somebody is."""
    arguments = [int(mend), "" if fence is None else fence, round(SLACK * 1000)]
    reply: list[Any]
    [reply] = await scripts.run(redis, ScriptCall("examine_wake", k, arguments))
    return reply[0], reply[1]
