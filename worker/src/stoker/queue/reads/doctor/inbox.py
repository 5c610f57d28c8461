"""The inbox: programs can add to it. A producer may choose the id of an entry; after the highest one Redis refuses all others."""

from collections.abc import AsyncIterator

from stoker.queue import scripts
from stoker.queue.inbox import Inbox
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient


async def inbox(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """Take in what is there, then begin a new stream."""
    [state] = await scripts.run(redis, ScriptCall("examine_inbox", keys, [0]))
    if state == b"sound":
        return
    if mend:
        while (await Inbox(redis, keys).take_in()).read:
            pass
        [state] = await scripts.run(redis, ScriptCall("examine_inbox", keys, [1]))
    yield Finding("inbox", "the last id of the inbox is far ahead", state == b"mended")
