"""Marks: entries whose name is not the id of a task, and which would never be deleted once their task is gone."""

from collections.abc import AsyncIterator, Callable

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.doctor.steps import STEP, in_steps
from stoker.queue.scripts import ScriptCall
from stoker.queue.workflows.effects import REMEMBERED, US
from stoker.redis.client import RedisClient, scan


async def marks(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """Remove marks without a task. Unpark a task whose concurrency key has room."""
    async for batch in in_steps(_marks(redis, keys), lambda mark: mark[:2]):
        for finding in await _judge(redis, keys, batch, mend=mend):
            yield finding


async def _marks(redis: RedisClient, k: Keys) -> AsyncIterator[tuple[str, bytes, bytes]]:
    """Kind and mark, and the id for a finding."""
    sets: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
        ("running", k.running_by, _last),
        ("parked", k.parked_by, _last),
        ("unclaimed", k.unclaimed_by, _last),
        ("relayed", k.relayed, bytes),
    )
    for kind, key, name in sets:
        async for mark, _ in scan(redis, "ZSCAN", key, STEP):
            yield kind, mark, name(mark)
            if kind == "parked" and mark.count(US) >= 2:
                yield "key", mark.rsplit(US, 2)[0], name(mark)
    hashes: tuple[tuple[str, str, Callable[[bytes, bytes], bytes]], ...] = (
        ("unique", k.uniques, lambda _, value: value.partition(b" ")[2]),
        ("arrival", k.arrivals, lambda field, _: field.rpartition(US)[0]),
        ("worker", k.workers, lambda field, _: field),
    )
    for kind, key, called in hashes:
        async for field, value in scan(redis, "HSCAN", key, STEP):
            yield kind, field, called(field, value)


async def _judge(redis: RedisClient, k: Keys, batch: list[tuple[str, bytes, bytes]], *, mend: bool) -> list[Finding]:
    arguments = [int(mend), round(REMEMBERED * 1000), *(part for kind, mark, _ in batch for part in (kind, mark))]
    [troubles] = await scripts.run(redis, ScriptCall("examine_marks", k, arguments))
    found = zip(batch, troubles, strict=True)
    return [Finding(name.decode(errors="replace"), trouble.decode(), mend) for (_, _, name), trouble in found if trouble]


def _last(mark: bytes) -> bytes:
    return mark.rpartition(US)[2]
