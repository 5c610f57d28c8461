"""Queues as numbers."""

from fastapi import APIRouter, Response

from stoker.errors import NotFound
from stoker.gateway.backend import Redis
from stoker.gateway.documentation import answers
from stoker.gateway.replies import Overview, QueueNames, overview, reply
from stoker.queue.inspector import QueueStats

router = APIRouter(tags=["queues"])


@router.get("/stats", responses=answers(Overview, 200, 503))
async def stats(redis: Redis) -> Response:
    """Every queue, and all of them together."""
    async with redis.turn() as client:
        names = await client.inspector.queues()
        return reply(overview(await client.inspector.stats(names)))


@router.get("/queues", responses=answers(QueueNames, 200, 503))
async def queues(redis: Redis) -> Response:
    """The names of all queues ever used."""
    async with redis.turn() as client:
        return reply(QueueNames(await client.inspector.queues()))


@router.get("/queues/{queue}", responses=answers(QueueStats, 200, 404, 503))
async def one_queue(redis: Redis, queue: str) -> Response:
    """One queue."""
    async with redis.turn() as client:
        if queue not in await client.inspector.queues():
            raise NotFound(f"no queue {queue!r} was ever used here; GET /queues lists them")
        [numbers] = await client.inspector.stats([queue])
        return reply(numbers)
