"""`stoker doctor`: every task in exactly one place, proven on a live queue, and mended where it is not.

Walks all ids of all keys in bounded steps while the queue goes on working; each id is judged by one atomic script,
so what moves meanwhile is never mistaken for damage.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

from stoker.queue import scripts
from stoker.queue.commands import RedisClient, scan
from stoker.queue.keys import Keys
from stoker.queue.scripts import Call

STEP = 100


class Finding(NamedTuple):
    """One task that is not as it should be. `mended` where it was put right."""

    id: str
    trouble: str
    mended: bool


async def examine(redis: RedisClient, keys: Keys, *, mend: bool = False) -> AsyncIterator[Finding]:
    """Yield what is wrong. A task that is nowhere becomes ready again; one in two places keeps the liveliest."""
    seen: set[bytes] = set()
    batch: list[bytes] = []
    async for task_id in _ids(redis, keys):
        if task_id not in seen:
            seen.add(task_id)
            batch.append(task_id)
        if len(batch) >= STEP:
            for finding in await _judge(redis, keys, batch, mend=mend):
                yield finding
            batch = []
    for finding in await _judge(redis, keys, batch, mend=mend):
        yield finding


async def _ids(redis: RedisClient, keys: Keys) -> AsyncIterator[bytes]:
    for key in (
        keys.tasks,
        keys.owners,
        keys.attempts,
        keys.lost,
        keys.levels,
        keys.errors,
        keys.results,
        keys.cancels,
        keys.claims,
        keys.limits,
        *keys.story,
    ):
        async for task_id, _ in scan(redis, "HSCAN", key, STEP):
            yield task_id
    for key in (keys.ready, keys.suspects, keys.scheduled, keys.leases, keys.dead, keys.done, keys.cancelled, keys.parked):
        async for task_id, _ in scan(redis, "ZSCAN", key, STEP):
            yield task_id


async def _judge(redis: RedisClient, keys: Keys, ids: list[bytes], *, mend: bool) -> list[Finding]:
    if not ids:
        return []
    k = keys
    places = (k.ready, k.suspects, k.scheduled, k.leases, k.dead, k.done, k.cancelled)
    columns = (k.owners, k.attempts, k.lost, k.levels, k.errors, k.results, k.cancels)
    call = Call(
        "examine",
        (k.tasks, *places, *columns, k.meta, k.stats, k.wake, k.uniques, k.claims, *k.story, *k.parking),
        [int(mend), *ids],
    )
    [troubles] = await scripts.run(redis, call)
    return [Finding(task_id.decode(), trouble.decode(), mend) for task_id, trouble in zip(ids, troubles, strict=True) if trouble]
