"""`stoker stats`: the queues as numbers."""

from typing import Annotated

import typer

from stoker.cli.options import AsJson, Namespace, RedisUrl
from stoker.cli.output import print_json, print_table, seconds
from stoker.cli.session import known_queues, run
from stoker.client.client import Client
from stoker.queue.records import QueueStats
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL

_COLUMNS = (
    "QUEUE",
    "READY",
    "RUNNING",
    "SCHEDULED",
    "DEAD",
    "PARKED",
    "ENQUEUED",
    "SUCCEEDED",
    "RATE/S",
    "OLDEST WAIT",
    "WORKERS",
    "HELD",
)


def stats(
    queues: Annotated[list[str] | None, typer.Argument(metavar="QUEUE", help="All when none is named.")] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Show what waits, runs and ended in each queue."""

    async def work(client: Client) -> list[QueueStats]:
        return await client.inspector.stats(await known_queues(client, queues or []))

    found = run(redis_url, namespace, work)
    if as_json:
        print_json(found)
    else:
        print_table(_COLUMNS, [_row(queue) for queue in found])


def _row(q: QueueStats) -> tuple[object, ...]:
    rate, held = f"{q.completion_rate:.1f}", "paused" if q.paused else "rate limit" if q.throttled else "no"
    return (
        *(q.queue, q.ready, q.running, q.scheduled, q.dead, q.parked, q.enqueued, q.succeeded),
        *(rate, seconds(q.oldest_wait), q.workers, held),
    )
