"""The gateway's way to Redis: every request waits a bounded time for it, and only so many use it at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request

from stoker.client import Client
from stoker.errors import RedisUnavailable

PATIENCE = 4.0
AT_ONCE = 48  # below the connections of the client's pool, which refuses one more instead of waiting


class Backend:
    """A client of one event loop, shared by all requests."""

    def __init__(self, client: Client, patience: float = PATIENCE) -> None:
        self._client = client
        self._patience = patience
        self._room = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Client]:
        """Use Redis within the patience. Raises RedisUnavailable when it is over, and whatever the client raises."""
        try:
            async with asyncio.timeout(self._patience), self._room:
                yield self._client
        except TimeoutError:
            raise RedisUnavailable(f"Redis did not answer within {self._patience:g} s") from None


def backend_of(request: Request) -> Backend:
    """The application's one backend."""
    backend: Backend = request.app.state.backend
    return backend


Redis = Annotated[Backend, Depends(backend_of)]
"""What a route asks for when it needs Redis."""
