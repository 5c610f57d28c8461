"""The inside of a `Stoker`: what its tasks and handles, workers and the testing kit need of it, and users do not see."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from stoker.app.middleware import Enqueue, EnqueueLayer, RunLayer, enqueue_through
from stoker.client.client import Client
from stoker.queue.records import Answer
from stoker.redis.connect import connect
from stoker.rules.call import TaskCall
from stoker.rules.schedule import Definition
from stoker.task.declaration import Declaration
from stoker.task.dependencies import Factory
from stoker.telemetry.tracing import Tracing


class Schedule(NamedTuple):
    """A scheduled call, and the queue that it belongs to."""

    queue: str
    definition: Definition


class Application:
    """The declared tasks and schedules, the middleware, and one client for each event loop.

    `state` is what the lifespan yields while it is entered, and None otherwise.
    """

    def __init__(
        self, name: str, redis_url: str, namespace: str, lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None
    ) -> None:
        self.name = name
        self.redis_url = redis_url
        self.namespace = namespace
        self.declarations: dict[str, Declaration] = {}
        self.schedules: dict[str, Schedule] = {}
        self.run_layers: list[RunLayer] = []
        self.enqueue_layers: list[EnqueueLayer] = []
        self.dependency_overrides: dict[Factory, Factory] = {}
        self.tracing = Tracing()
        self.state: Any = None
        self._lifespan = lifespan
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()

    @property
    def client(self) -> Client:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        if client := self._clients.get(loop):
            return client
        client = self._clients[loop] = Client(connect(self.redis_url), self.namespace, self.tracing)
        return client

    def enqueue(self, calls: Sequence[TaskCall], by: Enqueue | None = None) -> Awaitable[Sequence[Answer]]:
        """Enqueue in order, through the middleware, by the client unless another way is given. Raises what middleware raises.

        A Conflict is returned in its call's place where there is no middleware; see `receipts`.
        """
        by = by or self.client.enqueue
        return enqueue_through(self.enqueue_layers, calls, by) if self.enqueue_layers else by(calls)

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Within this the lifespan is entered: for those who run tasks.

        Raises what the lifespan raises, and Invalid where what it yields is not the State that a task wants.
        """
        async with self._lifespan() if self._lifespan else _no_lifespan() as self.state:
            try:
                for declaration in self.declarations.values():
                    declaration.check_state(self.state, self.dependency_overrides, self.name)
                yield
            finally:
                self.state = None

    async def close(self) -> None:
        """Close the running loop's connections."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client:
            await client.close()


@asynccontextmanager
async def _no_lifespan() -> AsyncIterator[None]:
    yield
