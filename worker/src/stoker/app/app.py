"""The application: a set of tasks and where they are sent. What people import as `Stoker`."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, NamedTuple, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from stoker.app.decorator import Decorator
from stoker.app.middleware import EnqueueLayer, RunLayer, send_through
from stoker.app.prepared import Send
from stoker.app.sync import from_sync
from stoker.app.task import Task, TaskFunction
from stoker.client.call import TaskCall
from stoker.client.client import Client
from stoker.errors import Conflict, Invalid
from stoker.queue.broker import taken
from stoker.queue.records import Receipt
from stoker.redis.connect import connect
from stoker.rules.concurrency import Concurrency
from stoker.rules.message import check_version
from stoker.rules.retry import Retry
from stoker.rules.schedule import Definition, Timing
from stoker.rules.unique import Unique
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL, PREFIX
from stoker.task.dependencies import Factory
from stoker.task.options import Policy
from stoker.telemetry.tracing import Tracing

Lifespan = Callable[["Stoker"], AbstractAsyncContextManager[Any]]
"""What a worker process enters before its first task and leaves after its last."""
RunLayerT = TypeVar("RunLayerT", bound=RunLayer)
EnqueueLayerT = TypeVar("EnqueueLayerT", bound=EnqueueLayer)


class Stoker:
    """A set of tasks.

    `redis` and `namespace` are for development: STOKER_REDIS_URL and STOKER_NAMESPACE win over them,
    so that one image runs anywhere. `lifespan` is an async context manager that every worker process enters before its
    first task and leaves after its last; `state` is what it yields meanwhile, and None otherwise.
    `dependency_overrides` take the place of dependencies, as in FastAPI.
    """

    def __init__(
        self,
        name: str,
        *,
        redis: str = DEFAULT_REDIS_URL,
        namespace: str = DEFAULT_NAMESPACE,
        lifespan: Lifespan | None = None,
    ) -> None:
        self.name = name
        self.redis_url = os.environ.get(PREFIX + "REDIS_URL", redis)
        self.namespace = os.environ.get(PREFIX + "NAMESPACE", namespace)
        self.tasks: dict[str, Task[..., Any]] = {}
        self.schedules: dict[str, Schedule] = {}
        self.tracing = Tracing()
        self.state: Any = None
        self.dependency_overrides: dict[Factory, Factory] = {}
        self.run_layers: list[RunLayer] = []
        self.enqueue_layers: list[EnqueueLayer] = []
        self._lifespan = lifespan
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<Stoker {self.name}: {len(self.tasks)} tasks>"

    def task(
        self,
        *,
        queue: str = "default",
        name: str | None = None,
        priority: int = 0,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        retry: Retry | int | None = None,
        unique: Unique | None = None,
        concurrency: Concurrency | None = None,
        executor: Literal["thread", "process"] | None = None,
        version: int = 0,
        schedule: Timing | None = None,
    ) -> Decorator:
        """Register a function as a task. Its name on the wire is the function's own unless `name` is given.
        With `unique`, of all that would do the same only one waits (or runs) at a time; with `concurrency` only so many of one key
        run at a time. A plain function runs in a thread, or with `executor="process"` in a process that is killed at its timeout.
        In an async task or a process SoftTimeout is raised after `soft_timeout` seconds; after `timeout` it ends. A thread is told.
        With a `schedule` (`cron(...)`, `every(...)`) it runs by the clock, without arguments; see `Stoker.schedule`.

        Raise `version` when its parameters change: during a rollout, workers that declare a lower one hand such tasks back.

        Raises Invalid for a name that is taken, and for values out of range.
        """
        policy = Policy(
            queue=queue,
            priority=priority,
            timeout=timeout,
            soft_timeout=soft_timeout,
            retry=retry,
            unique=unique,
            concurrency=concurrency,
            executor=executor,
            version=check_version(version),
        )

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            task: TaskFunction[..., Any, ..., Any] = TaskFunction(self, name or function.__name__, function, policy)
            if task.name in self.tasks:
                raise Invalid(f"two tasks are named {task.name!r} in {self.name}: give one another name=")
            self.tasks[task.name] = task
            if schedule is not None:
                self.schedule(task.name, schedule, task.options().prepare())
            return task

        return cast(Decorator, register)

    def schedule(self, name: str, timing: Timing, call: TaskCall) -> None:
        """Run this call by the clock: `app.schedule("nightly", cron("0 3 * * *"), report.options().prepare(day="all"))`.

        Workers of the call's queue make it known when they start; no other process is needed. Raises Invalid for a name that is
        taken, and for options that a schedule decides itself.
        """
        if name in self.schedules:
            raise Invalid(f"two schedules are named {name!r} in {self.name}: give one another name")
        self.schedules[name] = Schedule(call.queue, _definition(name, timing, call))

    @overload
    def middleware(self, around: Literal["run"]) -> Callable[[RunLayerT], RunLayerT]: ...
    @overload
    def middleware(self, around: Literal["enqueue"]) -> Callable[[EnqueueLayerT], EnqueueLayerT]: ...
    def middleware(self, around: Literal["run", "enqueue"]) -> Callable[[Any], Any]:
        """Wrap `async def layer(subject, call_next)` around every run (its subject is the Context) or every enqueue (the TaskCall).

        The first that is added is the outermost. Raises Invalid for anything else to wrap.
        """
        layers: dict[str, list[Any]] = {"run": self.run_layers, "enqueue": self.enqueue_layers}
        if around not in layers:
            raise Invalid(f'no middleware around {around!r}: write middleware("run") or middleware("enqueue")')

        def add(layer: Any) -> Any:
            layers[around].append(layer)
            return layer

        return add

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Within this the lifespan is entered: for whoever runs tasks, as workers do.

        Raises what the lifespan raises, and Invalid where what it yields is no fit State for one of the tasks.
        """
        lifespan = self._lifespan or _no_lifespan
        async with lifespan(self) as self.state:
            try:
                for task in self.tasks.values():
                    task.check_state(self.state)
                yield
            finally:
                self.state = None

    async def enqueue_many(self, calls: Iterable[TaskCall]) -> list[Receipt]:
        """Send many prepared calls in few round trips; see `Task.options(...).prepare(...)`."""
        return await self.send(list(calls))

    def enqueue_many_sync(self, calls: Iterable[TaskCall]) -> list[Receipt]:
        """The same for code without an event loop."""
        return from_sync("await enqueue_many(...)", lambda: self.enqueue_many(calls), self.close)

    async def send(self, calls: Sequence[TaskCall]) -> list[Receipt]:
        """Enqueue in order, through the middleware. Raises as `Client.send`, and whatever the middleware raises."""
        return taken(await self.offer(calls))

    def offer(self, calls: Sequence[TaskCall]) -> Awaitable[Sequence[Receipt | Conflict]]:
        """The same, but for a Conflict, which is returned in its place where no middleware has raised it."""
        if self.enqueue_layers:
            return send_through(self.enqueue_layers, calls, self.client.send)
        return self.client.offer(calls)

    @property
    def client(self) -> Client:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        if client := self._clients.get(loop):
            return client
        client = self._clients[loop] = Client(connect(self.redis_url), self.namespace, self.tracing)
        return client

    def send_whole(self, parts: Sequence[TaskCall], by: Send) -> Awaitable[list[Receipt]]:
        """The parts of a workflow through the middleware, and what comes out of it as a whole `by` its own way."""
        return send_through(self.enqueue_layers, parts, by) if self.enqueue_layers else by(parts)

    async def close(self) -> None:
        """Give the running loop's connections back."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client:
            await client.close()


class Schedule(NamedTuple):
    """A call by the clock, and the queue it belongs to."""

    queue: str
    definition: Definition


def _definition(name: str, timing: Timing, call: TaskCall) -> Definition:
    own = {"delay": call.delay, "run_at": call.run_at, "id": call.id, "idempotency_key": call.idempotency_key, "unique": call.claim}
    if decided := [option for option, value in own.items() if value]:
        raise Invalid(f"schedule {name}: {', '.join(decided)} cannot be given: its times say when, its overlap how many at a time")
    more = {
        "retry": call.retry,
        "soft_timeout": call.soft_timeout,
        "headers": call.headers,
        "expires": call.expires or call.expires_at,
    }
    if beyond := [option for option, value in more.items() if value]:
        raise Invalid(f"schedule {name}: {', '.join(beyond)} cannot be given for a schedule; what a task's declaration says holds")
    return Definition(
        name,
        timing,
        call.task,
        call.payload,
        priority=call.priority,
        max_retries=call.max_retries,
        timeout=call.timeout,
        limit=call.limit,
    )


@asynccontextmanager
async def _no_lifespan(_: Stoker) -> AsyncIterator[None]:
    yield
