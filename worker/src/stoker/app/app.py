"""`Stoker`: an application's tasks, schedules and middleware, and where its tasks are sent."""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial, wraps
from typing import Any, Literal, TypeVar, cast, overload

from stoker.app.application import Application, Schedule
from stoker.app.decorator import Decorator
from stoker.app.middleware import EnqueueLayer, RunLayer
from stoker.app.modules import ENTRY_POINTS, Modules
from stoker.app.named import named_task
from stoker.app.on_dead import OnDead, TakesNothing, TakesStory, name_of
from stoker.app.prepared import Origin
from stoker.app.scheduled import definition_of
from stoker.app.sync import from_sync
from stoker.app.task import Task, TaskFunction
from stoker.client.client import Client
from stoker.errors import Invalid
from stoker.queue.records import Receipt, receipts
from stoker.rules.call import TaskCall
from stoker.rules.concurrency import Concurrency
from stoker.rules.message import check_task, check_version
from stoker.rules.retry import Retry
from stoker.rules.schedule import Timing, check_name
from stoker.rules.unique import Unique
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL, PREFIX
from stoker.task.configuration import Configuration
from stoker.task.declaration import Declaration
from stoker.task.dependencies import Factory

Lifespan = Callable[["Stoker"], AbstractAsyncContextManager[Any]]
"""What a worker process enters before its first task and exits after its last."""
RunLayerT = TypeVar("RunLayerT", bound=RunLayer)
HandlerT = TypeVar("HandlerT", bound=TakesStory | TakesNothing)
EnqueueLayerT = TypeVar("EnqueueLayerT", bound=EnqueueLayer)


TaskMethod = TypeVar("TaskMethod", bound=Callable[..., Any])


def _with_parentheses(method: TaskMethod) -> TaskMethod:
    """`Stoker.task` with its own error for `@app.task`; Python's speaks of positional arguments. Hidden from type checkers."""

    @wraps(method)
    def checked(self: "Stoker", *misplaced: object, **options: Any) -> Any:
        if misplaced:
            raise Invalid("write @app.task() with parentheses: its options are all given by name")
        return method(self, **options)

    return cast(TaskMethod, checked)


class Stoker:
    """An application: its tasks, by name in `tasks`, and the Redis they are sent to.

    `redis` and `namespace` are defaults for development: STOKER_REDIS_URL and STOKER_NAMESPACE override them, so that one image
    runs anywhere. `lifespan` is an async context manager that every worker process enters before its first task and exits after
    its last. `include` are modules with tasks of this application, which workers import when they load it: see `load`.
    `check_arguments` False: the types of arguments are left to the worker, for all calls without the option of that name.
    """

    def __init__(
        self,
        name: str,
        *,
        redis: str = DEFAULT_REDIS_URL,
        namespace: str = DEFAULT_NAMESPACE,
        lifespan: Lifespan | None = None,
        include: Iterable[str] = (),
        check_arguments: bool = True,
    ) -> None:
        self.tasks: dict[str, Task[..., Any]] = {}
        self._modules = Modules(include)
        self._timings: dict[str, Timing] = {}
        self._application = Application(
            name,
            os.environ.get(PREFIX + "REDIS_URL", redis),
            os.environ.get(PREFIX + "NAMESPACE", namespace),
            partial(lifespan, self) if lifespan else None,
        )
        self._application.check_arguments = check_arguments

    def __repr__(self) -> str:
        return f"<Stoker {self.name}: {len(self.tasks)} tasks>"

    @property
    def name(self) -> str:
        """In logs, and in the schedules that it declares."""
        return self._application.name

    @property
    def redis_url(self) -> str:
        """Where its tasks are sent. A change holds for connections made afterwards: `close` first."""
        return self._application.redis_url

    @redis_url.setter
    def redis_url(self, url: str) -> None:
        self._application.redis_url = url

    @property
    def namespace(self) -> str:
        """The prefix of all its keys in Redis. A change holds as that of `redis_url`."""
        return self._application.namespace

    @namespace.setter
    def namespace(self, namespace: str) -> None:
        self._application.namespace = namespace

    @property
    def dependency_overrides(self) -> dict[Factory, Factory]:
        """Replacements of dependencies, by the replaced one, as in FastAPI."""
        return self._application.dependency_overrides

    @dependency_overrides.setter
    def dependency_overrides(self, overrides: dict[Factory, Factory]) -> None:
        self._application.dependency_overrides = overrides

    @property
    def state(self) -> Any:
        """What the lifespan yields, while a worker process is within it; None otherwise."""
        return self._application.state

    @property
    def client(self) -> Client:
        """The client of the running event loop: waits for tasks of any name, and inspects queues."""
        return self._application.client

    @_with_parentheses
    def task(
        self,
        *,
        queue: str | None = None,
        name: str | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        retry: Retry | int | None = None,
        unique: Unique | None = None,
        concurrency: Concurrency | None = None,
        executor: Literal["thread", "process"] | None = None,
        version: int = 0,
        ignore_result: bool | None = None,
        schedule: Timing | None = None,
        on_dead: OnDead | None = None,
    ) -> Decorator:
        """Register a function as a task, under its own name unless `name` is given.

        `unique`: at most one task of the same kind waits (or runs) at a time. `concurrency`: at most that many of one key run at a
        time. `executor`: a plain function runs in a thread, or with "process" in a child process that is killed at its timeout.
        `soft_timeout`: SoftTimeout is raised in an async task or a process after that many seconds; `timeout` ends it. A thread
        cannot be ended: see `Context.cancelled`. `schedule`: `cron(...)` or `every(...)`, without arguments; see `Stoker.schedule`.
        `version`: raise it when the parameters change; workers that declare a lower one give such tasks back during a rollout.
        `on_dead`: a task of this application, or its name, that is enqueued with the DeadTask when one is dead; see `on_dead`.
        `ignore_result`: the returned value is not kept, and goes to the next link of a workflow only.

        What is left out is decided by `annotate` and `route`; the queue is "default" then, and the priority 0.

        Raises Invalid for a name that is taken, and for values out of range.
        """
        options = {
            "queue": queue,
            "priority": priority,
            "timeout": timeout,
            "soft_timeout": soft_timeout,
            "retry": retry,
            "unique": unique,
            "concurrency": concurrency,
            "executor": executor,
            "version": check_version(version),
            "ignore_result": ignore_result,
        }
        declared = {option: value for option, value in options.items() if value is not None}
        Configuration().policy(name or "", declared)  # refused here, where they are written

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            own_name = getattr(function, "__name__", type(function).__name__)
            task_name = check_task(own_name if name is None else name)
            policy = self._application.configuration.policy(task_name, declared)
            declaration = Declaration(task_name, function, policy, declared)
            task: TaskFunction[..., Any, ..., Any] = TaskFunction(Origin(self._application, declaration), function)
            if task.name in self.tasks:
                raise Invalid(f"two tasks are named {task.name!r} in {self.name}: give one another name=")
            self.tasks[task.name] = task
            self._application.declarations[task.name] = declaration
            if on_dead is not None:
                self._application.on_dead[task.name] = name_of(on_dead)
            if schedule is not None:
                self.schedule(task.name, schedule, task.options().prepare())
                self._timings[task.name] = schedule
            return task

        return cast(Decorator, register)

    def schedule(self, name: str, timing: Timing, call: TaskCall) -> None:
        """Enqueue this call on a schedule: `app.schedule("nightly", cron("0 3 * * *"), report.options().prepare(day="all"))`.

        Workers of the call's queue declare it when they start; there is no scheduler process. Raises Invalid for a name that is
        taken, and for options that a schedule decides itself.
        """
        if check_name(name) in self._application.schedules:
            raise Invalid(f"two schedules are named {name!r} in {self.name}: give one another name")
        self._application.schedules[name] = Schedule(call.queue, definition_of(name, timing, call))

    def route(self, pattern: str, *, queue: str) -> None:
        """Send the tasks of this pattern (`reports.*`) to this queue, where neither the call nor the declaration names one.

        See `annotate`.
        """
        self._configure(pattern, {"queue": queue})

    def annotate(
        self,
        pattern: str,
        *,
        priority: int | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        retry: Retry | int | None = None,
        unique: Unique | None = None,
        concurrency: Concurrency | None = None,
        ignore_result: bool | None = None,
    ) -> None:
        """Give options to the tasks whose names match the pattern, such as `shop.*`, or `*` for all.

        Precedence of each option: the call's, the declaration's, that of the most specific pattern (the whole name, then the most
        characters that are no wildcards, then the one added last), the default. Holds for tasks that are declared later too; calls
        that were prepared before stay as they are. Raises Invalid for values out of range, and where a task's timeouts would not
        fit together.
        """
        options = {
            "priority": priority,
            "timeout": timeout,
            "soft_timeout": soft_timeout,
            "retry": retry,
            "unique": unique,
            "concurrency": concurrency,
            "ignore_result": ignore_result,
        }
        self._configure(pattern, {option: value for option, value in options.items() if value is not None})

    def _configure(self, pattern: str, options: dict[str, Any]) -> None:
        self._application.configure(pattern, options)
        for name, timing in self._timings.items():
            call = self.tasks[name].options().prepare()
            self._application.schedules[name] = Schedule(call.queue, definition_of(name, timing, call))

    def named(self, name: str) -> Task[..., Any]:
        """The task of this name, which another program may declare: arguments are given by name, and only the worker checks them.

        Routes and annotations hold for it. A task of this application is returned as it is.
        """
        return self.tasks.get(name) or named_task(self._application, check_task(name))

    def discover(self, *packages: str, entry_points: str | bool = False) -> None:
        """Add packages, whose modules `load` imports, at any depth.

        `entry_points`: also those of installed distributions in this group (True: "stoker.tasks"). One that names a module is
        imported; one that names a function (`shop_mail.tasks:register`) is called with the application.
        """
        self._modules.discover(packages, ENTRY_POINTS if entry_points is True else entry_points or None)

    def load(self) -> None:
        """Import what `include` and `discover` name. Workers, their child processes and the testing kit do so.

        Raises Invalid that names the module and the line at fault.
        """
        self._modules.load(self)

    def on_dead(self, handler: HandlerT) -> HandlerT:
        """Make a task the handler of every dead task of this application that has no `on_dead=` itself.

        Write `@app.on_dead` above `@app.task(...)`. It is enqueued with the DeadTask, in the script that buries the task, once for
        each death; never for an expired or cancelled task, and never for a handler. Raises Invalid for what is no task, and for a
        second one.
        """
        if isinstance(handler, str) or not isinstance(handler, Task):
            raise Invalid("@app.on_dead takes a task: write it above @app.task(...)")
        if self._application.on_dead_default is not None:
            raise Invalid(f"{self.name} has an @app.on_dead already: task {self._application.on_dead_default}")
        self._application.on_dead_default = handler.name
        return handler

    @overload
    def middleware(self, around: Literal["run"]) -> Callable[[RunLayerT], RunLayerT]: ...
    @overload
    def middleware(self, around: Literal["enqueue"]) -> Callable[[EnqueueLayerT], EnqueueLayerT]: ...
    def middleware(self, around: Literal["run", "enqueue"]) -> Callable[[Any], Any]:
        """Add `async def layer(subject, call_next)` around every run (its subject is the Context) or every enqueue (the TaskCall).

        The first one added is the outermost. Raises Invalid for another `around`.
        """
        layers: dict[str, list[Any]] = {"run": self._application.run_layers, "enqueue": self._application.enqueue_layers}
        if around not in layers:
            raise Invalid(f'no middleware around {around!r}: write middleware("run") or middleware("enqueue")')

        def add(layer: Any) -> Any:
            layers[around].append(layer)
            return layer

        return add

    async def enqueue_many(self, calls: Iterable[TaskCall]) -> list[Receipt]:
        """Enqueue many prepared calls in few round trips; see `Task.prepare`.

        Arguments are encoded when a call is prepared, and all calls are checked before the first is sent, so that one which is
        Invalid leaves none enqueued. Not atomic beyond that: more than 200 calls are sent in batches, and where Redis fails on the
        way, those sent before are enqueued.

        Raises as `Task.enqueue`, and the first Conflict: the other calls have been enqueued.
        """
        return receipts(await self._application.enqueue(list(calls)))

    def enqueue_many_sync(self, calls: Iterable[TaskCall]) -> list[Receipt]:
        """`enqueue_many` for code without an event loop."""
        return from_sync("await enqueue_many(...)", lambda: self.enqueue_many(calls), self._application.close)

    async def close(self) -> None:
        """Close the running loop's connections."""
        await self._application.close()


def application_of(app: Stoker) -> Application:
    """What a Stoker keeps from its users: for workers and the testing kit."""
    return app._application
