"""Access to Redis from requests: bounded wait, bounded concurrency, a client for each namespace."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Annotated, NamedTuple, TypeVar

from fastapi import Depends, Query, Request

from stoker.client.client import Client
from stoker.errors import RedisUnavailable
from stoker.gateway.submission import checked
from stoker.rules.message import check_namespace

T = TypeVar("T")
PATIENCE = 4.0
AT_ONCE = 48  # below the client's pool size: some pools refuse a further connection instead of waiting


NAMESPACES = 100
"""Namespaces with a client. One more drops the client used longest ago: its successor reads the partitions again."""


class Backend:
    """A client for each namespace, all on the connections of one, shared by all requests."""

    def __init__(self, client: Client, patience: float = PATIENCE) -> None:
        self.client = client
        self.within = lru_cache(NAMESPACES)(client.within)
        self._patience = patience
        self._room = asyncio.Semaphore(AT_ONCE)
        self._abandoned: set[asyncio.Task[object]] = set()

    async def ask(self, work: Callable[[Client], Awaitable[T]], more: float = 0.0, client: Client | None = None) -> T:
        """The result of `work` with `client`, by default the gateway's own.

        Raises RedisUnavailable after `patience + more` seconds, and whatever `work` raises.

        `work` runs in a separate task: before Python 3.12 `asyncio.wait_for` may lose a cancellation, and an abandoned
        call may then run until its own timeout.
        """
        task = asyncio.ensure_future(self._in_turn(work, client or self.client))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._patience + more)
        finally:
            if not task.done():
                self._abandon(task)
        if not done:
            raise RedisUnavailable(f"Redis did not answer within {self._patience + more:g} s")
        return task.result()

    async def _in_turn(self, work: Callable[[Client], Awaitable[T]], client: Client) -> T:
        async with self._room:
            return await work(client)

    def _abandon(self, task: "asyncio.Task[T]") -> None:
        self._abandoned.add(task)  # the event loop holds only a weak reference
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: "asyncio.Task[T]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it


class Namespace(NamedTuple):
    """The backend as one request uses it. An empty `name` means the gateway's own namespace."""

    backend: Backend
    client: Client
    name: str = ""

    async def ask(self, work: Callable[[Client], Awaitable[T]], more: float = 0.0) -> T:
        """As Backend.ask, in this namespace."""
        return await self.backend.ask(work, more, self.client)


NamespaceQuery = Annotated[
    str | None, Query(description="The namespace of the queue; default: the gateway's own setting.", examples=["shop"])
]


def own_namespace(request: Request) -> Namespace:
    """The gateway's own namespace."""
    backend: Backend = request.app.state.backend
    return Namespace(backend, backend.client)


def asked_namespace(request: Request, namespace: NamespaceQuery = None) -> Namespace:
    """The namespace that ?namespace= names. Raises InvalidFields unless it can be one."""
    own = own_namespace(request)
    if namespace is None:
        return own
    name = checked("namespace", check_namespace, namespace)
    return Namespace(own.backend, own.backend.within(name), name)


OwnRedis = Annotated[Namespace, Depends(own_namespace)]
"""The dependency of a route that needs Redis but no queue."""
Redis = Annotated[Namespace, Depends(asked_namespace)]
"""The dependency of a route about queues or tasks: takes ?namespace=."""
