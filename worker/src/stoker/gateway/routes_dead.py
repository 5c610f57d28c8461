"""The dead letters: what failed for good, and a person's ways out."""

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, Response

from stoker.client.client import Client
from stoker.errors import NotFound
from stoker.gateway.backend import Redis
from stoker.gateway.documentation import answers
from stoker.gateway.replies import Accepted, TaskPage, reply
from stoker.gateway.routes_tasks import Cursor, Limit, MaybeQueue, QueueQuery, find
from stoker.gateway.submission import checked
from stoker.queue.reads.reader import PAGE
from stoker.rules.message import check_queue
from stoker.rules.states import TaskState

router = APIRouter(prefix="/dlq", tags=["dead letters"])
Move = Callable[[str, Sequence[str]], Awaitable[list[str]]]


@router.get("", responses=answers(TaskPage, 200, 422, 503))
async def dead(redis: Redis, queue: QueueQuery, cursor: Cursor = 0, limit: Limit = PAGE) -> Response:
    """The dead tasks of a queue, newest first, each with its last failure."""
    checked("queue", check_queue, queue)
    page = await redis.ask(lambda client: client.inspector.tasks(queue, TaskState.DEAD, cursor, limit))
    return reply(TaskPage(page.tasks, page.cursor))


@router.post("/{task_id:path}/retry", responses=answers(Accepted, 200, 404, 422, 503))
async def retry(redis: Redis, task_id: str, queue: MaybeQueue = None) -> Response:
    """Give a dead task another life, with fresh attempts."""
    await redis.ask(lambda client: _move(client, client.inspector.redrive, task_id, queue))
    return reply(Accepted(task_id, TaskState.READY))


@router.delete("/{task_id:path}", status_code=204, responses=answers(None, 204, 404, 422, 503))
async def remove(redis: Redis, task_id: str, queue: MaybeQueue = None) -> Response:
    """Remove a dead task for good."""
    await redis.ask(lambda client: _move(client, client.inspector.discard, task_id, queue))
    return Response(status_code=204)


async def _move(client: Client, move: Move, task_id: str, queue: str | None) -> None:
    status = await find(client, task_id, queue)
    if not await move(status.queue, [task_id]):
        now = await find(client, task_id, status.queue)
        raise NotFound(f"task {task_id!r} is not in the dead letters of queue {status.queue!r}: it is {now.state}")
