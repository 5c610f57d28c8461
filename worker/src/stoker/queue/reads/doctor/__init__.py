"""`stoker doctor`: every task in exactly one place, and whatever follows from tasks on its way, proven on a live queue, and mended
where it is not.

Walks through everything in bounded steps while the queue goes on working. What one place says of itself is judged by one atomic
script, so what moves meanwhile is never mistaken for damage; what can only be seen by looking at several places, or by waiting, is
looked at again and again before it is called damage.
"""

from collections.abc import AsyncIterator, Callable

from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.doctor.joins import joins
from stoker.queue.reads.doctor.marks import marks
from stoker.queue.reads.doctor.outbox import outbox
from stoker.queue.reads.doctor.schedules import schedules
from stoker.queue.reads.doctor.tasks import tasks
from stoker.queue.reads.doctor.wake import wake
from stoker.redis.client import RedisClient

# Tasks first: what is mended there leaves words in the outbox, which joins then see.
ROUNDS: tuple[Callable[..., AsyncIterator[Finding]], ...] = (tasks, marks, outbox, joins, schedules, wake)


async def examine(redis: RedisClient, keys: Keys, *, mend: bool = False) -> AsyncIterator[Finding]:
    """Yield what is wrong in one place of a queue. Raises RedisUnavailable or RedisRefused."""
    for look in ROUNDS:
        async for finding in look(redis, keys, mend=mend):
            yield finding
