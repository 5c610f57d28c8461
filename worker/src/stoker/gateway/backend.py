"""Access to Redis from requests: bounded wait, bounded concurrency."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from stoker.client.client import Client
from stoker.errors import RedisUnavailable

T = TypeVar("T")
PATIENCE = 4.0
AT_ONCE = 48  # below the client's pool size: some pools refuse a further connection instead of waiting


class Backend:
    """One client, shared by all requests."""

    def __init__(self, client: Client, patience: float = PATIENCE) -> None:
        self._client = client
        self._patience = patience
        self._room = asyncio.Semaphore(AT_ONCE)
        self._abandoned: set[asyncio.Task[object]] = set()

    async def ask(self, work: Callable[[Client], Awaitable[T]], more: float = 0.0) -> T:
        """The result of `work`. Raises RedisUnavailable after `patience + more` seconds, and whatever `work` raises.

        `work` runs in a separate task: before Python 3.12 `asyncio.wait_for` may lose a cancellation, and an abandoned
        call may then run until its own timeout.
        """
        task = asyncio.ensure_future(self._in_turn(work))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._patience + more)
        finally:
            if not task.done():
                self._abandon(task)
        if not done:
            raise RedisUnavailable(f"Redis did not answer within {self._patience + more:g} s")
        return task.result()

    async def _in_turn(self, work: Callable[[Client], Awaitable[T]]) -> T:
        async with self._room:
            return await work(self._client)

    def _abandon(self, task: "asyncio.Task[T]") -> None:
        self._abandoned.add(task)  # the event loop holds only a weak reference
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: "asyncio.Task[T]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it


def backend_of(request: Request) -> Backend:
    """The application's one backend."""
    backend: Backend = request.app.state.backend
    return backend


Redis = Annotated[Backend, Depends(backend_of)]
"""The dependency of a route that needs Redis."""
