"""The inside of a `Stoker`: what its tasks and handles, workers and the testing kit need of it, and users do not see."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, NamedTuple

from stoker.app.middleware import Enqueue, EnqueueLayer, RunLayer, enqueue_through
from stoker.client.client import Client
from stoker.queue.records import Answer
from stoker.redis.connect import connect
from stoker.rules.call import TaskCall
from stoker.rules.schedule import Definition
from stoker.task.configuration import Configuration
from stoker.task.declaration import Declaration
from stoker.task.dependencies import Factory
from stoker.telemetry.tracing import Tracing


class Schedule(NamedTuple):
    """A scheduled call, and the queue that it belongs to."""

    queue: str
    definition: Definition


class _LoopClient(NamedTuple):
    """The client of an event loop, and the generator whose end closes it."""

    client: Client
    end: AsyncGenerator[None, None]


class Application:
    """The declared tasks and schedules, the middleware, and one client for each event loop.

    `state` is what the lifespan yields while it is entered, and None otherwise. `check_arguments`: types are checked at enqueue.
    """

    def __init__(
        self, name: str, redis_url: str, namespace: str, lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None
    ) -> None:
        self.name = name
        self.redis_url = redis_url
        self.namespace = namespace
        self.declarations: dict[str, Declaration] = {}
        self.configuration = Configuration()
        self.schedules: dict[str, Schedule] = {}
        self.on_dead: dict[str, str] = {}  # task -> the one that handles its death
        self.on_dead_default: str | None = None
        self.run_layers: list[RunLayer] = []
        self.enqueue_layers: list[EnqueueLayer] = []
        self.dependency_overrides: dict[Factory, Factory] = {}
        self.check_arguments = True
        self.tracing = Tracing()
        self.state: Any = None
        self._lifespan = lifespan
        self._clients: dict[asyncio.AbstractEventLoop, _LoopClient] = {}

    @property
    def client(self) -> Client:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        if found := self._clients.get(loop):
            return found.client
        self._drop_closed_loops()
        client = Client(connect(self.redis_url), self.namespace, self.tracing)
        end = self._close_with_loop(loop, client)
        with suppress(StopIteration):
            end.__anext__().send(None)  # from here on the loop knows it
        self._clients[loop] = _LoopClient(client, end)
        return client

    def enqueue(self, calls: Sequence[TaskCall], by: Enqueue | None = None) -> Awaitable[Sequence[Answer]]:
        """Enqueue in order, through the middleware, by the client unless another way is given. Raises what middleware raises.

        A Conflict is returned in its call's place where there is no middleware; see `receipts`.
        """
        by = by or self.client.enqueue
        return enqueue_through(self.enqueue_layers, calls, by) if self.enqueue_layers else by(calls)

    def configure(self, pattern: str, options: Mapping[str, Any]) -> None:
        """Give these options to the tasks of this pattern, declared or to come, that do not declare them themselves.

        Raises Invalid, and changes nothing, for a bad pattern or value, and where a task's options would not fit together.
        """
        configuration = self.configuration.with_rule(pattern, options)
        policies = {name: configuration.policy(name, each.declared) for name, each in self.declarations.items()}
        self.configuration = configuration
        for name, policy in policies.items():
            self.declarations[name].policy = policy

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
        if found := self._clients.pop(asyncio.get_running_loop(), None):
            await found.end.aclose()

    async def _close_with_loop(self, loop: asyncio.AbstractEventLoop, client: Client) -> AsyncGenerator[None, None]:
        """Closes the client when `asyncio.run` ends: loops close their async generators before they end."""
        try:
            yield
        finally:
            if (found := self._clients.get(loop)) and found.client is client:
                del self._clients[loop]
            await client.close()

    def _drop_closed_loops(self) -> None:
        """Cut the connections of loops that were closed without an end of their async generators."""
        for loop in list(self._clients):
            if loop.is_closed() and (found := self._clients.pop(loop, None)):
                found.client.abandon()


@asynccontextmanager
async def _no_lifespan() -> AsyncIterator[None]:
    yield
