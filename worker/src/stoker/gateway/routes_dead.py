"""Dead tasks: list, redrive, delete."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response

from stoker.client.client import Client
from stoker.errors import NotFound
from stoker.gateway.backend import Redis
from stoker.gateway.documentation import answers
from stoker.gateway.replies import Accepted, Redriven, TaskPage, reply
from stoker.gateway.routes_tasks import V1, Cursor, Limit, MaybeQueue, QueueQuery, find
from stoker.gateway.submission import checked
from stoker.gateway.task_pages import page_of
from stoker.queue.reads.reader import PAGE
from stoker.rules.message import check_queue
from stoker.rules.states import TaskState

MOST_REDRIVEN = 1000
REDRIVE_WITHIN = 20.0
"""Seconds beyond the usual patience: a filter reads every dead task of the queue."""
router = APIRouter(prefix=f"{V1}/dead", tags=["dead tasks"])
Act = Callable[[str, Sequence[str]], Awaitable[list[str]]]
TaskName = Annotated[str, Query(description="Only tasks of this name.")]
FailureType = Annotated[str, Query(description="Only tasks that died of this failure type.")]
Most = Annotated[int, Query(ge=1, le=MOST_REDRIVEN, description="At most this many; call again for more.")]


@router.get("", responses=answers(TaskPage, 200, 422, 503))
async def dead(redis: Redis, queue: QueueQuery, cursor: Cursor = 0, limit: Limit = PAGE) -> Response:
    """The dead tasks of a queue, newest first, each with its last failure."""
    checked("queue", check_queue, queue)
    return reply(await redis.ask(lambda client: page_of(client, queue, TaskState.DEAD, cursor, limit)))


@router.post("/redrive", responses=answers(Redriven, 200, 422, 503))
async def redrive_matching(
    redis: Redis, queue: QueueQuery, task: TaskName = "", failure: FailureType = "", limit: Most = MOST_REDRIVEN
) -> Response:
    """Run the dead tasks of a queue again with fresh attempts, longest dead first: all, or those of one name or failure type."""
    checked("queue", check_queue, queue)

    async def work(client: Client) -> int:
        pages = client.inspector.redrive_all(queue, task=task, failure=failure, limit=limit)
        return sum([len(page) async for page in pages])

    return reply(Redriven(await redis.ask(work, REDRIVE_WITHIN)))


@router.post("/{task_id:path}/redrive", responses=answers(Accepted, 200, 404, 409, 422, 503))
async def redrive(redis: Redis, task_id: str, queue: MaybeQueue = None) -> Response:
    """Run a dead task again, with fresh attempts."""
    await redis.ask(lambda client: _act(client, client.inspector.redrive, task_id, queue))
    return reply(Accepted(task_id, TaskState.READY))


@router.delete("/{task_id:path}", status_code=204, responses=answers(None, 204, 404, 409, 422, 503))
async def delete(redis: Redis, task_id: str, queue: MaybeQueue = None) -> Response:
    """Delete a dead task. There is no undo."""
    await redis.ask(lambda client: _act(client, client.inspector.delete, task_id, queue))
    return Response(status_code=204)


async def _act(client: Client, act: Act, task_id: str, queue: str | None) -> None:
    """Raises NotFound unless the task is dead."""
    status = await find(client, task_id, queue)
    if not await act(status.queue, [task_id]):
        now = await find(client, task_id, status.queue)
        raise NotFound(f"task {task_id!r} of queue {status.queue!r} is not dead, it is {now.state}")
