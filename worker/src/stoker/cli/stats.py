"""`stoker stats`: queues in numbers."""

from typing import Annotated

import typer

from stoker.cli.output import print_table, seconds
from stoker.cli.session import Session, known_queues, with_session
from stoker.client.client import Client
from stoker.errors import RedisRefused, StokerError
from stoker.queue.reads.reader import PAGE
from stoker.queue.records import QueueStats
from stoker.queue.scripts import chunks
from stoker.rules.states import TaskState

STATES = tuple(TaskState)
_COLUMNS = ("QUEUE", *(state.upper() for state in STATES), "PARKED", "UNCLAIMED", "RATE/S", "OLDEST WAIT", "WORKERS", "HELD")


@with_session
def stats(
    session: Session, queues: Annotated[list[str] | None, typer.Argument(metavar="QUEUE", help="Default: all.")] = None
) -> None:
    """Count the tasks of each queue by state; show its rate, oldest wait and workers. --json adds totals since it began."""

    async def work(client: Client) -> list[tuple[str, QueueStats | StokerError]]:
        names = await known_queues(client, queues or [])
        found = [each for some in chunks(names, PAGE) for each in await client.inspector.stats_each(some)]
        return list(zip(names, found, strict=True))

    answers = session.run(work)
    found = [each for _, each in answers if isinstance(each, QueueStats)]
    unread = [f"queue {name} cannot be read: {each}" for name, each in answers if isinstance(each, StokerError)]
    session.show(found, lambda: print_table(_COLUMNS, [_row(queue) for queue in found]))
    if unread:
        raise RedisRefused("; ".join(unread))


def _row(queue: QueueStats) -> tuple[object, ...]:
    held = "paused" if queue.paused else "rate limit" if queue.throttled else "no"
    counts = (getattr(queue, state) for state in STATES)
    rate = f"{queue.completion_rate:.1f}"
    return (queue.queue, *counts, queue.parked, queue.unclaimed, rate, seconds(queue.oldest_wait), queue.workers, held)
