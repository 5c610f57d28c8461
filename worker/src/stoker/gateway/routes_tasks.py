"""Tasks: enqueue, list, look up."""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from stoker.client.client import Client
from stoker.gateway.backend import Namespace, Redis
from stoker.gateway.documentation import answers, takes
from stoker.gateway.limits import MAX_BATCH_BYTES, MAX_TASK_BYTES, Bodies
from stoker.gateway.problems import FieldError, InvalidFields
from stoker.gateway.replies import Accepted, BatchReply, TaskPage, batch_reply, reply
from stoker.gateway.requests import TaskRequest
from stoker.gateway.submission import SHOWN_ERRORS, checked, read_batch, read_task
from stoker.gateway.task_pages import page_of
from stoker.queue.reads.reader import PAGE
from stoker.queue.records import Answer, TaskStatus, receipts
from stoker.redis.durability import PATIENCE as CONFIRMED_WITHIN
from stoker.rules.call import TaskCall
from stoker.rules.durability import Durability
from stoker.rules.message import check_queue
from stoker.rules.states import TaskState

V1 = "/v1"
"""Prefix of every path but those for probes and documentation."""
router = APIRouter(prefix=V1, tags=["tasks"])

ENCODED_AT_ONCE = 1024 * 1024

Cursor = Annotated[int, Query(ge=0, le=2**53, description="Where the page before ended.")]
Limit = Annotated[int, Query(ge=1, le=100, description="Tasks a page.")]
QueueQuery = Annotated[str, Query(description="The queue.")]
MaybeQueue = Annotated[str | None, Query(description="The queue it is in; without it all are searched.")]


@router.post(
    "/tasks",
    status_code=202,
    openapi_extra=takes(TaskRequest),
    responses=answers(Accepted, 202, 200, 400, 409, 413, 415, 422, 503, 507),
)
async def enqueue(request: Request, redis: Redis) -> Response:
    """Enqueue a task.

    202 if it is new, 200 if the same task exists under its id or idempotency key, 409 if a different one does.

    With `unique`, 200 and the id of the task that blocks it, if any. With a `durability` that Redis does not confirm, 503: the task
    is enqueued nevertheless, and the problem names its id.
    """
    bodies = _bodies(request)
    async with bodies.json(request, MAX_TASK_BYTES) as body:
        async with bodies.turn(body):
            call = await read_task(body)
        await _check_known(request, redis, [call.queue])
        accepted = await redis.ask(lambda client: _send(client, call), _longer([call]))
    place = f"queue={call.queue}" + (f"&namespace={redis.name}" if redis.name else "")
    headers = {"Location": f"{V1}/tasks/{quote(accepted.task_id, safe='')}?{place}"}
    return reply(accepted, 200 if accepted.duplicate else 202, headers)


@router.post(
    "/tasks/batch",
    status_code=202,
    openapi_extra=takes(list[TaskRequest]),
    responses=answers(BatchReply, 202, 400, 413, 415, 422, 503, 507),
)
async def enqueue_many(request: Request, redis: Redis) -> Response:
    """Enqueue up to 1000 tasks. One invalid task refuses the whole batch; a taken id refuses only its own task."""
    bodies = _bodies(request)
    async with bodies.json(request, MAX_BATCH_BYTES) as body:
        async with bodies.turn(body):
            calls = await read_batch(body)
        await _check_known(request, redis, [call.queue for call in calls])
        outcomes = await redis.ask(lambda client: _enqueue_by_queue(client, calls), _longer(calls))
    return reply(batch_reply([call.own_id or "" for call in calls], outcomes), 202)


@router.get("/tasks", responses=answers(TaskPage, 200, 422, 503))
async def tasks(
    redis: Redis, queue: QueueQuery, state: TaskState = TaskState.READY, cursor: Cursor = 0, limit: Limit = PAGE
) -> Response:
    """Tasks of one state: ready in the order they will run, scheduled by due time, ended ones newest first."""
    checked("queue", check_queue, queue)
    return reply(await redis.ask(lambda client: page_of(client, queue, state, cursor, limit)))


@router.get("/tasks/{task_id:path}", responses=answers(TaskStatus, 200, 404, 409, 422, 503))
async def task(redis: Redis, task_id: str, queue: MaybeQueue = None) -> Response:
    """One task: state, attempts, failures, progress, log lines, result. 409 without `queue` where several queues have this id."""
    return reply(await redis.ask(lambda client: find(client, task_id, queue)))


async def find(client: Client, task_id: str, queue: str | None) -> TaskStatus:
    """The task in its queue, or in any queue. Raises NotFound, and Ambiguous without a queue where several have one."""
    if queue is None:
        return await client.inspector.find(task_id)
    return await client.status(checked("queue", check_queue, queue), task_id)


async def _check_known(request: Request, redis: Namespace, queues: list[str]) -> None:
    """Raises InvalidFields for a queue that is not known, where only known ones are taken."""
    if not request.app.state.known_queues_only:
        return
    unknown = set(await redis.ask(lambda client: client.inspector.catalogue.unknown(sorted(set(queues)))))
    if not unknown:
        return
    words = "unknown queue {!r}: this gateway takes only those that a worker has served or a TaskQueue claims"
    prefix = "" if len(queues) == 1 else "[{}]."
    errors = [FieldError(f"{prefix.format(at)}queue", words.format(queue)) for at, queue in enumerate(queues) if queue in unknown]
    raise InvalidFields(errors[:SHOWN_ERRORS])


def _bodies(request: Request) -> Bodies:
    bodies: Bodies = request.app.state.bodies
    return bodies


def _longer(calls: list[TaskCall]) -> float:
    """Extra seconds for a durability: replicas and disks may take one wait, and another if the script is not loaded yet."""
    return 2 * CONFIRMED_WITHIN if any(call.durability is not Durability.MEMORY for call in calls) else 0.0


async def _send(client: Client, call: TaskCall) -> Accepted:
    [receipt] = receipts(await client.enqueue([call]))
    state = receipt.state or (await client.status(call.queue, receipt.id)).state
    return Accepted(receipt.id, state, receipt.duplicate)


async def _enqueue_by_queue(client: Client, calls: list[TaskCall]) -> list[Answer]:
    """Grouped by queue, so that a mixed batch costs one round trip per queue, not per task."""
    order = sorted(range(len(calls)), key=lambda at: calls[at].queue)
    answers = [answer for part in _parts([calls[at] for at in order]) for answer in await client.enqueue(part)]
    by_index = dict(zip(order, answers, strict=True))
    return [by_index[at] for at in range(len(calls))]


def _parts(calls: list[TaskCall]) -> Iterator[list[TaskCall]]:
    """In parts of about ENCODED_AT_ONCE bytes, so that the event loop is free between them."""
    part: list[TaskCall] = []
    size = 0
    for call in calls:
        part.append(call)
        size += len(bytes(call.payload))
        if size > ENCODED_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part
