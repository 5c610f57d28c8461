"""Pages of tasks by their size: a hundred tasks with their payloads, results and log lines may take 60 MB."""

import msgspec

from stoker.client.client import Client
from stoker.gateway.replies import TaskPage
from stoker.queue.records import TaskStatus
from stoker.rules.states import TaskState

PAGE_BYTES = 95_000
READ_AT_ONCE = 10
"""Tasks read in one round trip."""


async def page_of(client: Client, queue: str, state: TaskState, cursor: int, limit: int) -> TaskPage:
    """The tasks behind `cursor`: at most `limit`, and at least one, of at most PAGE_BYTES together."""
    shown: list[TaskStatus] = []
    size = 0
    while len(shown) < limit:
        part = await client.inspector.tasks(queue, state, cursor, min(READ_AT_ONCE, limit - len(shown)))
        for at, task in enumerate(part.tasks):
            size += len(msgspec.json.encode(task))
            if shown and size > PAGE_BYTES:
                return TaskPage(shown, cursor + at)
            shown.append(task)
        if part.cursor is None:
            return TaskPage(shown, None)
        cursor = part.cursor
    return TaskPage(shown, cursor)
