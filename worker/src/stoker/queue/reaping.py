"""Take back at once what a worker held whose end somebody saw, instead of waiting for its leases to end."""

from typing import Any, cast

from stoker.queue import scripts
from stoker.queue.broker import REAPED_AT_ONCE, Reaped, chunks, lost_too_often, reclaim_keys
from stoker.queue.connection import RedisClient, errors_mapped
from stoker.queue.keys import Keys
from stoker.queue.scripts import Call
from stoker.rules.names import runs_on

STEP = 500


async def reap_host(redis: RedisClient, keys: Keys, host: str, max_lost: int) -> Reaped:
    """What the processes of a pod (or machine) held goes back into line, each delivery counted as lost, and they are forgotten."""
    with errors_mapped():
        names = [name.decode() for name in await cast(Any, redis.hkeys(keys.workers))]
        gone = [name for name in names if runs_on(name, host)]
        held: list[tuple[bytes, str]] = []
        async for task_id, owner in cast(Any, redis.hscan_iter(keys.owners, count=STEP)):
            fence = owner.decode().partition(" ")[0]
            if runs_on(_worker_of(fence), host):
                held.append((task_id, fence))
    total = Reaped(0, 0, 0)
    parts = list(chunks(held, REAPED_AT_ONCE)) or ([[]] if gone else [])
    for part in parts:
        pairs = [field for pair in part for field in pair]
        arguments = [max_lost, lost_too_often(max_lost), len(gone), *gone, *pairs]
        [reply] = await scripts.run(redis, Call("reap_worker", reclaim_keys(keys), arguments))
        total = Reaped(*(sum(each) for each in zip(total, reply, strict=True)))
    return total


def _worker_of(fence: str) -> str:
    return fence.partition(":")[2].partition(":")[0]
