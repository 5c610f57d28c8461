"""One command's conversation with Redis: connect, work, close, and errors that say where and what to do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stoker.client.client import Client
from stoker.errors import NotFound, RedisRefused, RedisUnavailable
from stoker.queue.records import TaskStatus
from stoker.redis.url import without_password

T = TypeVar("T")


def run(redis_url: str, namespace: str, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do `work` with a client of its own. Raises StokerError for all that can go wrong with Redis."""

    async def conversation() -> T:
        client = Client.at(redis_url, namespace)
        try:
            return await work(client)
        finally:
            await client.close()

    where = f"Redis at {without_password(redis_url)}"
    try:
        return asyncio.run(conversation())
    except RedisUnavailable as error:
        advice = "start it, or say where it is with --redis-url or STOKER_REDIS_URL"
        raise RedisUnavailable(f"{where} cannot be used now: {advice} ({error})") from error
    except RedisRefused as error:
        raise RedisRefused(f"{where} refuses: {error}") from error


async def find(client: Client, task_id: str, queue: str | None) -> TaskStatus:
    """The task in its queue, or in whichever has it. Raises NotFound."""
    return await (client.inspector.find(task_id) if queue is None else client.status(queue, task_id))


async def known_queues(client: Client, wanted: list[str]) -> list[str]:
    """These queues, or all. Raises NotFound for one that was never used: most likely its name is mistyped."""
    names = await client.inspector.queues()
    for name in wanted:
        if name not in names:
            raise NotFound(f"no queue {name!r} was ever used here; known: {', '.join(names) or 'none'}")
    return wanted or names
