"""`stoker doctor`: checks a live queue for damage, and repairs it with `mend`.

Scans all keys in bounded steps while the queue works. What lies within one partition is judged by one atomic script, so a task that
moves meanwhile is never mistaken for damage. What takes several partitions, or time, is looked at repeatedly before it counts.
"""

from collections.abc import AsyncIterator, Callable

from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.claim import claim
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.doctor.inbox import inbox
from stoker.queue.reads.doctor.joins import joins
from stoker.queue.reads.doctor.marks import marks
from stoker.queue.reads.doctor.outbox import outbox
from stoker.queue.reads.doctor.records import records
from stoker.queue.reads.doctor.schedules import schedules
from stoker.queue.reads.doctor.tasks import tasks
from stoker.queue.reads.doctor.wake import wake
from stoker.redis.client import RedisClient

# Tasks first: repairs there write to the outbox, which `joins` reads.
ROUNDS: tuple[Callable[..., AsyncIterator[Finding]], ...] = (inbox, tasks, marks, outbox, joins, schedules, claim, records, wake)


async def examine(redis: RedisClient, keys: Keys, *, mend: bool = False) -> AsyncIterator[Finding]:
    """Yield what is wrong in one partition. Raises RedisUnavailable or RedisRefused."""
    for look in ROUNDS:
        async for finding in look(redis, keys, mend=mend):
            yield finding
