"""Cron schedules: list, next runs, run now, pause, resume, change the times."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from stoker.client.client import Client
from stoker.gateway.backend import Redis
from stoker.gateway.documentation import answers
from stoker.gateway.replies import NextRun, NextRuns, ScheduleChanged, ScheduleList, ScheduleRun, ShownSchedule, reply
from stoker.gateway.routes_tasks import V1, QueueQuery
from stoker.gateway.submission import checked
from stoker.queue.schedules import Schedules
from stoker.rules.message import check_queue
from stoker.rules.schedule import MAX_EXPRESSION, CatchUp, Overlap, local_time, next_moments

MOST_NEXT = 100
MAX_JITTER = 86400
router = APIRouter(prefix=f"{V1}/schedules", tags=["schedules"])
Count = Annotated[int, Query(ge=1, le=MOST_NEXT, description="Number of runs.")]
Expression = Annotated[str | None, Query(max_length=MAX_EXPRESSION, description="Cron expression, or @every 90s.")]
Zone = Annotated[str | None, Query(max_length=64, description="IANA name, such as Europe/Berlin.")]
Jitter = Annotated[float | None, Query(ge=0, le=MAX_JITTER, description="Seconds by which a run is delayed at most.")]


def _of(client: Client, queue: str) -> Schedules:
    return client.inspector.schedules(queue)


@router.get("", responses=answers(ScheduleList, 200, 422, 503))
async def schedules(redis: Redis, queue: QueueQuery) -> Response:
    """The schedules of a queue, with their next run and how the last one ended. `source` says who declares them."""
    checked("queue", check_queue, queue)
    found = await redis.ask(lambda client: _of(client, queue).all())
    return reply(ScheduleList(queue, [ShownSchedule.of(status) for status in found]))


@router.get("/{name}/next", responses=answers(NextRuns, 200, 404, 422, 503))
async def following(redis: Redis, name: str, queue: QueueQuery, count: Count = 5) -> Response:
    """The next runs by its expression, in its time zone, whether it is paused or not. Without jitter."""
    checked("queue", check_queue, queue)

    async def work(client: Client) -> NextRuns:
        found = await _of(client, queue).one(name)
        timing = found.definition.timing
        moments = next_moments(timing, await _of(client, queue).now(), count)
        runs = [NextRun(moment, local_time(moment, timing.time_zone).isoformat()) for moment in moments]
        return NextRuns(name, found.status.paused, runs)

    return reply(await redis.ask(work))


@router.post("/{name}/run", responses=answers(ScheduleRun, 200, 404, 422, 503))
async def run(redis: Redis, name: str, queue: QueueQuery) -> Response:
    """Start a run now, beside the scheduled ones."""
    checked("queue", check_queue, queue)
    return reply(ScheduleRun(name, await redis.ask(lambda client: _of(client, queue).run_now(name))))


@router.post("/{name}/pause", responses=answers(ScheduleChanged, 200, 404, 422, 503))
async def pause(redis: Redis, name: str, queue: QueueQuery) -> Response:
    """Start no more runs until it is resumed, even if it is declared again."""
    checked("queue", check_queue, queue)
    return reply(ScheduleChanged(name, await redis.ask(lambda client: _of(client, queue).pause(name))))


@router.post("/{name}/resume", responses=answers(ScheduleChanged, 200, 404, 422, 503))
async def resume(redis: Redis, name: str, queue: QueueQuery) -> Response:
    """Resume a paused schedule at its next moment; runs missed while paused are not made up."""
    checked("queue", check_queue, queue)
    return reply(ScheduleChanged(name, await redis.ask(lambda client: _of(client, queue).resume(name))))


@router.post("/{name}/set", responses=answers(ScheduleChanged, 200, 404, 422, 503))
async def override(
    redis: Redis,
    name: str,
    queue: QueueQuery,
    cron: Expression = None,
    time_zone: Zone = None,
    overlap: Overlap | None = None,
    catch_up: CatchUp | None = None,
    jitter: Jitter = None,
) -> Response:
    """Change when a schedule of an application's code runs, until `reset`: redeploys leave it as it is. 422 for a TaskQueue's."""
    checked("queue", check_queue, queue)
    given: dict[str, Any] = {"cron": cron, "time_zone": time_zone, "overlap": overlap, "catch_up": catch_up, "jitter": jitter}
    changes = {field: value for field, value in given.items() if value is not None}
    await redis.ask(lambda client: _of(client, queue).override(name, changes))
    return reply(ScheduleChanged(name, bool(changes)))


@router.post("/{name}/reset", responses=answers(ScheduleChanged, 200, 404, 422, 503))
async def reset(redis: Redis, name: str, queue: QueueQuery) -> Response:
    """Drop what `set` has changed. A running worker declares its code's schedule again within seconds, else the next one."""
    checked("queue", check_queue, queue)
    return reply(ScheduleChanged(name, await redis.ask(lambda client: _of(client, queue).reset(name))))
