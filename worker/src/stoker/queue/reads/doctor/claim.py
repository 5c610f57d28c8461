"""The claim of a TaskQueue on the queue. Whether a TaskQueue that can be read still exists is known to its cluster alone."""

import asyncio
from collections.abc import AsyncIterator

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding, count
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient, ask
from stoker.rules.identity import MOVED, UNREADABLE, decode_holder

PATIENCE = 2.0
"""Seconds for an operator to release a claim that it has marked. It takes two round trips."""


async def claim(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """Find a claim that no operator can recognize as its own; release it."""
    held = await ask(redis, "HGET", keys.meta, "claim")
    if held is None:
        return
    holder = decode_holder(held)
    if holder == UNREADABLE:
        trouble = "claim that cannot be read"
    elif holder.uid.endswith(MOVED):
        await asyncio.sleep(PATIENCE)
        trouble = f"claim that TaskQueue {holder.name} has left"
    else:
        return
    if mend:
        [released] = await scripts.run(redis, ScriptCall("release_claim", keys, [held]))
        still = released != b""
        if still:
            await count(redis, keys)
    else:
        still = await ask(redis, "HGET", keys.meta, "claim") == held
    if still:
        yield Finding(keys.queue, trouble, mend)
