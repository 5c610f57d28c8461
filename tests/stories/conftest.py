"""An application for every story, on an empty server."""

import io
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from redis.asyncio import Redis

from stoker import Stoker
from stoker.telemetry.logs import JsonFormatter, TaskIds


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Stoker]:
    """An application without tasks yet: each story declares its own."""
    stoker = Stoker("shop", redis=redis_url)
    yield stoker
    await stoker.close()


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[str], Stoker]]:
    """Applications at other servers. They are closed also where the story fails: else a later one would be told of it."""
    apps: list[Stoker] = []

    def at(url: str) -> Stoker:
        apps.append(Stoker("shop", redis=url))
        return apps[-1]

    yield at
    for app in apps:
        await app.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Redis itself, for what the stories' tasks write down."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What `stoker worker --log-format json` would write."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    handler.setFormatter(JsonFormatter())
    handler.addFilter(TaskIds())
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
