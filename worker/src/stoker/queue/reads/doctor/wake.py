"""The wake token: when tasks are ready it exists, or a worker has just taken it and is about to fetch."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient

PATIENCE = 2.0
"""Seconds without any fetch while tasks are ready. A woken worker fetches within a few ms."""
SLACK = 10.0
"""Seconds by which the worker that watches the rate limit may be late, before another takes over."""


async def wake(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """Find ready tasks for which no worker is woken; add the token."""
    _, fence = await look(redis, keys)
    if fence < 0:
        return
    await asyncio.sleep(PATIENCE)
    _, still = await look(redis, keys, mend=mend, fence=fence)
    if still == fence:
        yield Finding(keys.queue, "tasks are ready, but there is no wake token", mend)


async def look(redis: RedisClient, k: Keys, *, mend: bool = False, fence: int | None = None) -> tuple[int, int]:
    """The queue's clock in ms, and the fence counter if tasks are ready and no worker is woken, else -1."""
    arguments = [int(mend), "" if fence is None else fence, round(SLACK * 1000)]
    reply: list[Any]
    [reply] = await scripts.run(redis, ScriptCall("examine_wake", k, arguments))
    return reply[0], reply[1]
