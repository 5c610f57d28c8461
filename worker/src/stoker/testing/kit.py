"""Kit: runs an application's tasks within a test, on a server and a clock of the test's own."""

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
from stoker.manifest.policies import Keep, Lease, RateLimit, Retention
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
from stoker.worker.system.aio import cancel_all

NAMESPACE = "test"
KEPT = Retention(Keep(Duration(365 * 86400)), Keep(Duration(365 * 86400)))
"""Results and dead tasks are kept, however far a test moves the clock."""
STEP_INTERVAL = 0.005
"""Seconds between steps while no running task ends: one may wait for a task that it has enqueued."""
CLOCK_UNIT = 0.001
"""Smallest move of the clock in seconds: the unit of times in Redis."""
PAGE = 500
T = TypeVar("T")
R = TypeVar("R")


class Settings(TypedDict, total=False):
    """Settings of a test's worker, named as the flags of `stoker worker`. Times in seconds."""

    concurrency: int
    task_timeout: float
    retry: Retry
    lease: Lease
    retention: Retention
    rate_limit: RateLimit


class Kit:
    """Runs an application's tasks, and reads what became of them; made by `run`. Nothing runs outside of its methods.

    `enqueued`, `dead` and the assertions read from the server at once, without `await`.
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
        self._read = _BlockingReader(server.url)
        self._working = False

    async def run_until_idle(self, *, within: float = 10.0) -> list[Run]:
        """Run all tasks that are ready or due by the kit's clock, and those that they enqueue. Returns the runs in starting order.

        Tasks run concurrently, as in a worker. Raises AssertionError when some still run after `within` real seconds.
        """
        since = len(self.runs)
        if await self._in_lifespan(self._run_all(within)):
            still = [run for run in self.runs[since:] if run.outcome == "released"]
            _fail(f"after {within:g} s these ran still (the kit's clock moves no sleep of theirs):", still)
        return self.runs[since:]

    async def run_for(self, seconds: float | timedelta) -> list[Run]:
        """Let this much time pass (seconds), and run each task when it is due: the clock jumps from one moment to the next.

        Returns the runs. Leases of dead workers end on the way too.
        """
        since = len(self.runs)
        until = self.clock() + (seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)
        await self.run_until_idle()
        while (pause := self._pause()) is not None and self.clock() + pause < until:
            self.clock.advance(max(pause, CLOCK_UNIT))
            await self.run_until_idle()
        self.clock.advance(max(0.0, until - self.clock()))
        await self.run_until_idle()
        return self.runs[since:]

    async def crash_worker(self, after: Literal["fetch", "run"] = "fetch") -> list[str]:
        """Have a worker take the ready tasks and die: before it has run any, or after it has run all. Nothing is settled.

        Returns their ids. They become ready again when the lease has ended: after `clock.advance(30)`, unless `lease` is set.
        """
        taken = await self._in_lifespan(self._crash(after_running=after == "run"))
        if not taken:
            _fail("no task was ready that a worker could crash with; there are:", self.enqueued())
        return taken

    def enqueued(self, task: Task[..., Any] | str | None = None) -> list[Enqueued]:
        """The tasks (of this function or name) in all queues and states, oldest first, with their arguments."""
        name = task.name if isinstance(task, Task) else task
        now = self.clock()
        found = [enqueued(self.app, status, now) for status in self._read(self._all) if name in (None, status.task)]
        return sorted(found, key=lambda each: each.id)

    @property
    def dead(self) -> list[Enqueued]:
        """The dead tasks."""
        return [each for each in self.enqueued() if each.state is TaskState.DEAD]

    def assert_succeeded(self, handle: Handle[R]) -> R:
        """Its result. Raises AssertionError with its state when it has not succeeded."""
        __tracebackhide__ = True
        status = self._status(handle)
        if status.state is not TaskState.SUCCEEDED or status.result is None:
            _fail("not succeeded:", [self._record(status)])
        result: R = application_of(self.app).declarations[status.task].decode_result(bytes(status.result.value))
        return result

    def assert_dead(self, handle: Handle[Any], match: str = "") -> Enqueued:
        """Assert that it is dead, with `match` in the type and text of its failure."""
        __tracebackhide__ = True
        record = self._record(self._status(handle))
        if record.state is not TaskState.DEAD or match not in str(record):
            _fail(f"not dead{f' of {match!r}' if match else ''}:", [record])
        return record

    def assert_enqueued(self, task: Task[..., Any], /, **arguments: Any) -> Enqueued:
        """The one task whose arguments include these. Raises AssertionError when there is none, or more than one."""
        __tracebackhide__ = True
        there = self.enqueued(task)
        fitting = [each for each in there if arguments.items() <= each.arguments.items()]
        if len(fitting) != 1:
            _fail(f"{len(fitting)} of {task.name} with {arguments}, not 1; there are:", there)
        return fitting[0]

    @contextmanager
    def override(self, dependency: Factory, replacement: Factory) -> Iterator[None]:
        """Within this, tasks get `replacement` for this dependency."""
        overrides = self.app.dependency_overrides
        before = overrides.copy()
        overrides[dependency] = replacement
        try:
            yield
        finally:
            overrides.clear()
            overrides.update(before)

    async def declare_schedules(self) -> None:
        """Declare the application's schedules, from the clock's time on: done at the start, and before every run."""
        schedules = application_of(self.app).schedules.values()
        for queue in {schedule.queue for schedule in schedules}:
            wanted = [each.definition for each in schedules if each.queue == queue]
            await self._stepper(queue).declare(wanted)

    async def close(self) -> None:
        """Cancel what runs, and leave the application's lifespan."""
        for stepper in self._steppers.values():
            await stepper.end()
        await self._lifespan.stop()
        self._read.close()

    async def _in_lifespan(self, work: Coroutine[Any, Any, T]) -> T:
        if self._working:
            work.close()
            raise AssertionError("a task cannot have the kit run tasks: do that in the test")
        self._working = True
        try:
            if not self._lifespan.begun:
                await self._lifespan.start()
            running = self._lifespan.beside(work)
            try:
                return await running
            finally:
                await cancel_all(running)
        finally:
            self._working = False

    async def _run_all(self, within: float) -> bool:
        """Whether it took longer than `within` seconds."""
        until = asyncio.get_running_loop().time() + within
        await self.declare_schedules()
        while True:
            steppers = [self._stepper(queue) for queue in await self._queues()]
            moved = sum([await stepper.step() for stepper in steppers])
            running = [job for stepper in steppers for job in stepper.worker.running]
            if running:
                await asyncio.wait(running, timeout=STEP_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
            elif not moved and not any(stepper.worker.held for stepper in steppers):  # one may have ended during the others' steps
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
        """Seconds until something is due; None when nothing is scheduled or leased."""
        waits = [stepper.back_in for stepper in self._steppers.values() if stepper.back_in is not None]
        now, leases = self.clock(), self._read(partial(self._all, states=[TaskState.RUNNING]))
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
            return self._read(lambda redis: Inspector(redis, self.app.namespace).task(handle.queue, handle.id))
        except NotFound as error:
            raise AssertionError(str(error)) from None

    def _record(self, status: TaskStatus) -> Enqueued:
        return enqueued(self.app, status, self.clock())


class _BlockingReader:
    """Reads from a second thread, so that callers need not await."""

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
    """Connect the application to an empty test server: `server`, or one that is started now.

    Until the end everything that is enqueued through the application goes there. Its lifespan is entered with the first run.
    """
    if server is None:
        with Server() as own:
            async with run(app, own, **settings) as kit:
                yield kit
        return
    app.load()
    before = app.redis_url, app.namespace
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
            app.redis_url, app.namespace = before


def _path(app: Stoker) -> str:
    """`module:attribute` of the application, for child processes: in a module of one of its tasks. Empty when it is in none."""
    modules = {declaration.function.__module__ for declaration in application_of(app).declarations.values()}
    paths = (f"{module}:{name}" for module in sorted(modules) for name, value in vars(sys.modules[module]).items() if value is app)
    return next(paths, "")


async def _queues(app: Stoker, inspector: Inspector) -> list[str]:
    application = application_of(app)
    tasks = {declaration.policy.queue for declaration in application.declarations.values()}
    declared = tasks | {schedule.queue for schedule in application.schedules.values()}
    return sorted(declared.union(await inspector.queues()))


def _fail(text: str, records: Sequence[Any]) -> NoReturn:
    __tracebackhide__ = True
    lines = []
    for each in records:
        lines.append(f"  {each}")
        if each.failure and each.failure.traceback:
            lines += [f"    {line}" for line in each.failure.traceback.rstrip().splitlines()]
    raise AssertionError("\n".join([text, *(lines or ["  (none)"])]))
