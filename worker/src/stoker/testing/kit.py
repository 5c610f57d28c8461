"""The kit that a test works with: an application whose queues are the test's own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any, Literal, NoReturn, TypedDict, TypeVar, Unpack

from stoker.app.app import Stoker, application_of
from stoker.app.task import Handle, Task
from stoker.errors import NotFound
from stoker.manifest import Keep, Lease, RateLimit, Retention
from stoker.queue.reads.inspector import Inspector
from stoker.queue.records import TaskStatus
from stoker.redis.client import RedisClient
from stoker.redis.connect import ThreadClient, connect
from stoker.rules.retry import Retry
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from stoker.settings import WorkerSettings
from stoker.task.dependencies import Factory
from stoker.testing.clock import Clock
from stoker.testing.record import Enqueued, Run, enqueued
from stoker.testing.server import Server
from stoker.testing.stepping import Stepper
from stoker.worker.process.lifespan import Lifespan
from stoker.worker.system.aio import end

NAMESPACE = "test"
KEPT = Retention(Keep(Duration(365 * 86400)), Keep(Duration(365 * 86400)))
"""A test wants to see what there was, however far it moves the clock."""
PACE = 0.005
"""Seconds after which the kit looks around, though no running task has ended: one may have enqueued what it now waits for."""
SHORTEST_STEP = 0.001
"""Seconds by which the clock goes on at least: the unit of Redis' times."""
PAGE = 500
T = TypeVar("T")
R = TypeVar("R")


class Settings(TypedDict, total=False):
    """What a test may say of its worker, as the flags of `stoker worker` do. Times in seconds."""

    concurrency: int
    task_timeout: float
    retry: Retry
    lease: Lease
    retention: Retention
    rate_limit: RateLimit


class Kit:
    """What a test does with its application; made by `run`. Nothing runs but within its methods.

    What it says of tasks (`enqueued`, `dead`, the assertions) it reads from the server there and then, without `await`.
    """

    def __init__(self, app: Stoker, server: Server, redis: RedisClient, settings: Settings) -> None:
        self.app = app
        self.clock: Clock = server.clock
        self.runs: list[Run] = []
        self._redis = redis
        self._settings: Settings = {"retention": KEPT, **settings}
        self._lifespan = Lifespan(app)
        self._steppers: dict[str, Stepper] = {}
        self._names = count(1)
        self._look = _Look(server.url)
        self._at_work = False

    async def run_until_idle(self, *, within: float = 10.0) -> list[Run]:
        """Run all that is ready or due by the kit's clock, and what comes of that. Returns the runs as they began.

        Tasks run side by side as in a worker. Raises AssertionError where some still run after `within` real seconds.
        """
        since = len(self.runs)
        if await self._beside(self._run_all(within)):
            still = [run for run in self.runs[since:] if run.outcome == "released"]
            _fail(f"after {within:g} s these ran still (the kit's clock moves no sleep of theirs):", still)
        return self.runs[since:]

    async def run_for(self, seconds: float | timedelta) -> list[Run]:
        """Let this much time pass, and run everything when it is due: the clock goes from one moment to the next. Returns the runs.

        What a dead worker holds is waited for as well.
        """
        since = len(self.runs)
        until = self.clock() + (seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)
        await self.run_until_idle()
        while (pause := self._pause()) is not None and self.clock() + pause < until:
            self.clock.advance(max(pause, SHORTEST_STEP))
            await self.run_until_idle()
        self.clock.advance(max(0.0, until - self.clock()))
        await self.run_until_idle()
        return self.runs[since:]

    async def crash_worker(self, after: Literal["fetch", "run"] = "fetch") -> list[str]:
        """A worker takes what is ready and dies: before it has begun any, or after it has run them all. Nothing is settled.

        Returns the ids. They come back when the lease has ended: after `clock.advance(30)`, unless `run` was told otherwise.
        """
        taken = await self._beside(self._crash(after_running=after == "run"))
        if not taken:
            _fail("no task was ready that a worker could crash with; there are:", self.enqueued())
        return taken

    def enqueued(self, task: Task[..., Any] | str | None = None) -> list[Enqueued]:
        """The tasks (of this function or name) in all queues and states, the oldest first, with their arguments."""
        name = task.name if isinstance(task, Task) else task
        now = self.clock()
        found = [enqueued(self.app, status, now) for status in self._look(self._all) if name in (None, status.task)]
        return sorted(found, key=lambda each: each.id)

    @property
    def dead(self) -> list[Enqueued]:
        """What is in the dead letters."""
        return [each for each in self.enqueued() if each.state is TaskState.DEAD]

    def assert_succeeded(self, handle: Handle[R]) -> R:
        """Its result. Raises AssertionError that says what became of it instead."""
        __tracebackhide__ = True
        status = self._status(handle)
        if status.state is not TaskState.SUCCEEDED or status.result is None:
            _fail("not succeeded:", [self._told(status)])
        result: R = application_of(self.app).declarations[status.task].decode_result(bytes(status.result.value))
        return result

    def assert_dead(self, handle: Handle[Any], match: str = "") -> Enqueued:
        """It is in the dead letters, with `match` in the type and text of its failure. Raises AssertionError otherwise."""
        __tracebackhide__ = True
        told = self._told(self._status(handle))
        if told.state is not TaskState.DEAD or match not in str(told):
            _fail(f"not dead{f' of {match!r}' if match else ''}:", [told])
        return told

    def assert_enqueued(self, task: Task[..., Any], /, **arguments: Any) -> Enqueued:
        """The one task with these arguments among its own. Raises AssertionError where there is none, or more than one."""
        __tracebackhide__ = True
        there = self.enqueued(task)
        fitting = [each for each in there if arguments.items() <= each.arguments.items()]
        if len(fitting) != 1:
            _fail(f"{len(fitting)} of {task.name} with {arguments}, not 1; there are:", there)
        return fitting[0]

    @contextmanager
    def override(self, dependency: Factory, replacement: Factory) -> Iterator[None]:
        """Within this, tasks are given another dependency."""
        overrides = self.app.dependency_overrides
        before = overrides.copy()
        overrides[dependency] = replacement
        try:
            yield
        finally:
            overrides.clear()
            overrides.update(before)

    async def declare_schedules(self) -> None:
        """Make the application's schedules known, from this moment of the clock on: done at the beginning, and before every run."""
        schedules = application_of(self.app).schedules.values()
        for queue in {schedule.queue for schedule in schedules}:
            wanted = [each.definition for each in schedules if each.queue == queue]
            await self._stepper(queue).declare(wanted)

    async def close(self) -> None:
        """Give up what runs, and leave the application's lifespan."""
        for stepper in self._steppers.values():
            await stepper.end()
        await self._lifespan.stop()
        self._look.close()

    async def _beside(self, work: Coroutine[Any, Any, T]) -> T:
        if self._at_work:
            work.close()
            raise AssertionError("a task cannot ask the kit to run tasks: do that in the test")
        self._at_work = True
        try:
            if not self._lifespan.begun:
                await self._lifespan.start()
            running = self._lifespan.beside(work)
            try:
                return await running
            finally:
                await end(running)
        finally:
            self._at_work = False

    async def _run_all(self, within: float) -> bool:
        """Whether it took too long."""
        until = asyncio.get_running_loop().time() + within
        await self.declare_schedules()
        while True:
            steppers = [self._stepper(queue) for queue in await self._queues()]
            moved = sum([await stepper.step() for stepper in steppers])
            running = [job for stepper in steppers for job in stepper.worker.running]
            if running:
                await asyncio.wait(running, timeout=PACE, return_when=asyncio.FIRST_COMPLETED)
            elif not moved and not any(stepper.worker.held for stepper in steppers):  # one may have ended while others moved
                break
            if asyncio.get_running_loop().time() > until:
                for stepper in steppers:
                    await stepper.end()
                self._steppers.clear()
                return True
        for stepper in steppers:
            await stepper.sweep()
        return False

    async def _crash(self, *, after_running: bool) -> list[str]:
        doomed = [self._new_stepper(queue, "crashed") for queue in await self._queues()]
        return [task_id for stepper in doomed for task_id in await stepper.crash(after_running=after_running)]

    def _pause(self) -> float | None:
        """Seconds until there is more to do; None where nothing waits for any time."""
        waits = [stepper.back_in for stepper in self._steppers.values() if stepper.back_in is not None]
        now, leases = self.clock(), self._look(partial(self._all, states=[TaskState.RUNNING]))
        return min([*waits, *((status.at or 0) / 1000 - now for status in leases)], default=None)

    def _stepper(self, queue: str) -> Stepper:
        if queue not in self._steppers:
            self._steppers[queue] = self._new_stepper(queue, "worker")
        return self._steppers[queue]

    def _new_stepper(self, queue: str, name: str) -> Stepper:
        app = self.app
        settings = WorkerSettings(queue=queue, app=_path(app), redis_url=app.redis_url, namespace=app.namespace, **self._settings)
        return Stepper(f"{name}-{next(self._names)}", self.app, settings, self._redis, self.clock, self.runs)

    async def _queues(self) -> list[str]:
        return await _queues(self.app, Inspector(self._redis, self.app.namespace))

    async def _all(self, redis: RedisClient, states: Iterable[TaskState] = TaskState) -> list[TaskStatus]:
        inspector = Inspector(redis, self.app.namespace)
        found: list[TaskStatus] = []
        for queue in await _queues(self.app, inspector):
            for state in states:
                cursor: int | None = 0
                while cursor is not None:
                    page, cursor = await inspector.tasks(queue, state, cursor, PAGE)
                    found += page
        return found

    def _status(self, handle: Handle[Any]) -> TaskStatus:
        try:
            return self._look(lambda redis: Inspector(redis, self.app.namespace).task(handle.queue, handle.id))
        except NotFound as error:
            raise AssertionError(str(error)) from None

    def _told(self, status: TaskStatus) -> Enqueued:
        return enqueued(self.app, status, self.clock())


class _Look:
    """Reads from a thread of its own, for whoever cannot await."""

    def __init__(self, url: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stoker-kit")
        self._client = ThreadClient(url)

    def __call__(self, read: Callable[[RedisClient], Coroutine[Any, Any, T]]) -> T:
        return self._thread.submit(self._client.run, read).result()

    def close(self) -> None:
        self._thread.submit(self._client.close).result()
        self._thread.shutdown()


@asynccontextmanager
async def run(app: Stoker, server: Server | None = None, **settings: Unpack[Settings]) -> AsyncIterator[Kit]:
    """The application on a server of the test's own, which is empty at first: one that is started now, unless one is given.

    Until the end everything that is enqueued through the application goes there. Its lifespan is entered with the first run.
    """
    if server is None:
        with Server() as own:
            async with run(app, own, **settings) as kit:
                yield kit
        return
    elsewhere = app.redis_url, app.namespace
    await app.close()
    with server.used():
        app.redis_url, app.namespace = server.url, NAMESPACE
        redis = connect(server.url)
        kit = Kit(app, server, redis, settings)
        try:
            await kit.declare_schedules()
            yield kit
        finally:
            await kit.close()
            await redis.aclose()
            await app.close()
            app.redis_url, app.namespace = elsewhere


def _path(app: Stoker) -> str:
    """Where processes of the kit's worker find the application: in a module of one of its tasks. Empty where it is in none."""
    modules = {declaration.function.__module__ for declaration in application_of(app).declarations.values()}
    paths = (f"{module}:{name}" for module in sorted(modules) for name, value in vars(sys.modules[module]).items() if value is app)
    return next(paths, "")


async def _queues(app: Stoker, inspector: Inspector) -> list[str]:
    application = application_of(app)
    tasks = {declaration.policy.queue for declaration in application.declarations.values()}
    declared = tasks | {schedule.queue for schedule in application.schedules.values()}
    return sorted(declared.union(await inspector.queues()))


def _fail(words: str, there: Sequence[Any]) -> NoReturn:
    __tracebackhide__ = True
    lines = []
    for each in there:
        lines.append(f"  {each}")
        if each.failure and each.failure.traceback:
            lines += [f"    {line}" for line in each.failure.traceback.rstrip().splitlines()]
    raise AssertionError("\n".join([words, *(lines or ["  (none)"])]))
