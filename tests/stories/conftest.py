"""An application for every story, on an empty server."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from stoker import Stoker


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Stoker]:
    """An application without tasks yet: each story declares its own."""
    stoker = Stoker("shop", redis=redis_url)
    yield stoker
    await stoker.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Redis itself, for what the stories' tasks write down."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client
