"""Statistics of queues."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from stoker.client.client import Client
from stoker.errors import NotFound
from stoker.gateway.backend import Redis
from stoker.gateway.documentation import answers
from stoker.gateway.problems import Refusal
from stoker.gateway.replies import Overview, QueueNames, overview, reply
from stoker.gateway.routes_tasks import V1
from stoker.gateway.submission import checked
from stoker.queue.catalogue import IN_USE
from stoker.queue.records import QueueStats
from stoker.rules.message import check_queue

MAX_STATS, MAX_NAMES = 100, 1000
"""Queues of a page, so that it has less than 100 KB."""
router = APIRouter(prefix=V1, tags=["queues"])
After = Annotated[str, Query(max_length=100, description="Only names behind this one: `next` of the page before.")]
StatsLimit = Annotated[int, Query(ge=1, le=MAX_STATS, description="Queues a page.")]
Everything = Annotated[bool, Query(description="Delete its tasks, schedules and claim too.")]
NamesLimit = Annotated[int, Query(ge=1, le=MAX_NAMES, description="Names a page.")]


@router.get("/stats", responses=answers(Overview, 200, 422, 503))
async def stats(redis: Redis, limit: StatsLimit = MAX_STATS, after: After = "") -> Response:
    """Each queue's tasks by state, rates and totals, and sums over all. A queue that cannot be read is named with the reason.

    `next` is the `after` of the next page, null at the end. Where there are several pages, `all` is null.
    """

    async def page(client: Client) -> Overview:
        names, following = await client.inspector.catalogue.page(limit, after)
        return overview(names, await client.inspector.stats_each(names), following, whole=not (after or following))

    return reply(await redis.ask(page))


@router.get("/queues", responses=answers(QueueNames, 200, 422, 503))
async def queues(redis: Redis, limit: NamesLimit = MAX_NAMES, after: After = "") -> Response:
    """The names of all queues, in order. `next` is the `after` of the next page, null at the end."""
    return reply(QueueNames(*await redis.ask(lambda client: client.inspector.catalogue.page(limit, after))))


@router.get("/queues/{queue}", responses=answers(QueueStats, 200, 404, 422, 503))
async def one_queue(redis: Redis, queue: str) -> Response:
    """One queue: tasks by state, rates, totals."""
    checked("queue", check_queue, queue)

    async def this_one(client: Client) -> QueueStats:
        if await client.inspector.catalogue.unknown([queue]):
            raise NotFound(f"unknown queue {queue!r}; GET /v1/queues lists all")
        [numbers] = await client.inspector.stats([queue])
        return numbers

    return reply(await redis.ask(this_one))


@router.delete("/queues/{queue}", status_code=204, responses=answers(None, 204, 404, 409, 422, 503))
async def forget(redis: Redis, queue: str, everything: Everything = False) -> Response:
    """Delete a queue that is not used: its name, totals and settings. 409 while it has tasks, schedules, workers or a claim.

    With `everything` those are deleted too; there is no undo. The next task or worker of that name begins it again.
    """
    checked("queue", check_queue, queue)

    async def work(client: Client) -> str:
        if await client.inspector.catalogue.unknown([queue]):
            raise NotFound(f"unknown queue {queue!r}; GET /v1/queues lists all")
        return await client.inspector.catalogue.forget(queue, everything=everything)

    if use := await redis.ask(work):
        detail = f"queue {queue!r} has {IN_USE[use]}: ?everything=true deletes it nevertheless"
        raise Refusal(HTTPStatus.CONFLICT, detail, "queue-in-use")
    return Response(status_code=204)
