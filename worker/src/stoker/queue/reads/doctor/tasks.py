"""Tasks: each is in exactly one state, with its envelope, and has only the columns of that state."""

from collections.abc import AsyncIterator, Sequence

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.doctor.steps import STEP, in_steps
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient, scan


async def tasks(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """A task in no state becomes ready; one in two keeps the liveliest; columns without a task are deleted."""
    async for batch in in_steps(_ids(redis, keys), bytes):
        for finding in await _judge(redis, keys, batch, mend=mend):
            yield finding


async def _ids(redis: RedisClient, k: Keys) -> AsyncIterator[bytes]:
    columns = (
        k.tasks,
        k.owners,
        k.attempts,
        k.lost,
        k.levels,
        k.errors,
        k.results,
        k.cancels,
        k.claims,
        k.limits,
        k.unclaimed_as,
        k.members,
        k.history,
        k.progress,
        k.logs,
    )
    for key in columns:
        async for task_id, _ in scan(redis, "HSCAN", key, STEP):
            yield task_id
    for key in (k.ready, k.suspects, k.scheduled, k.leases, k.dead, k.done, k.cancelled, k.parked, k.unclaimed):
        async for task_id, _ in scan(redis, "ZSCAN", key, STEP):
            yield task_id


async def _judge(redis: RedisClient, k: Keys, ids: Sequence[bytes], *, mend: bool) -> list[Finding]:
    [troubles] = await scripts.run(redis, ScriptCall("examine", k, [int(mend), *ids]))
    return [Finding(task_id.decode(), trouble.decode(), mend) for task_id, trouble in zip(ids, troubles, strict=True) if trouble]
