"""Statistics of queues."""

from fastapi import APIRouter, Response

from stoker.client.client import Client
from stoker.errors import NotFound
from stoker.gateway.backend import Redis
from stoker.gateway.documentation import answers
from stoker.gateway.replies import Overview, QueueNames, overview, reply
from stoker.gateway.routes_tasks import V1
from stoker.gateway.submission import checked
from stoker.queue.records import QueueStats
from stoker.rules.message import check_queue

router = APIRouter(prefix=V1, tags=["queues"])


@router.get("/stats", responses=answers(Overview, 200, 422, 503))
async def stats(redis: Redis) -> Response:
    """All queues: sums, and each queue's tasks by state, rates and totals. A queue that cannot be read is named with the reason."""

    async def all_of_them(client: Client) -> Overview:
        names = await client.inspector.queues()
        return overview(names, await client.inspector.stats_each(names))

    return reply(await redis.ask(all_of_them))


@router.get("/queues", responses=answers(QueueNames, 200, 422, 503))
async def queues(redis: Redis) -> Response:
    """The names of all queues ever used."""
    return reply(QueueNames(await redis.ask(lambda client: client.inspector.queues())))


@router.get("/queues/{queue}", responses=answers(QueueStats, 200, 404, 422, 503))
async def one_queue(redis: Redis, queue: str) -> Response:
    """One queue: tasks by state, rates, totals."""
    checked("queue", check_queue, queue)

    async def this_one(client: Client) -> QueueStats:
        if queue not in await client.inspector.queues():
            raise NotFound(f"unknown queue {queue!r}; GET /v1/queues lists all")
        [numbers] = await client.inspector.stats([queue])
        return numbers

    return reply(await redis.ask(this_one))
