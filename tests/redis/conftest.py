"""A queue for every test, checked for the truth afterwards."""

from collections.abc import AsyncIterator

import pytest
from line import Line, open_line


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[Line]:
    """An empty queue with a lease of 30 s and three losses until the grave."""
    async with open_line(redis_url) as opened:
        yield opened
