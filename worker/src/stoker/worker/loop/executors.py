"""Run one delivery's function and say how it ended: async functions on the loop, plain ones in threads or in child processes."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from stoker.app.app import Stoker, application_of
from stoker.app.middleware import chains_through, onion
from stoker.errors import Invalid
from stoker.queue.records import Delivery
from stoker.rules.message import Message
from stoker.rules.settle import Failure, Fatal, Outcome, Raised, Returned, Unknown
from stoker.settings import WorkerSettings
from stoker.task.context import Context, run_of
from stoker.task.declaration import Declaration
from stoker.task.dependencies import Plan
from stoker.telemetry.logs import running
from stoker.telemetry.tracing import carried
from stoker.worker.children.pool import Child, NotStarted, ProcessPool
from stoker.worker.run.deadline import Deadlines, Limits, softly
from stoker.worker.run.dependencies import context_of, run_here_with, run_with
from stoker.worker.run.outcome import ChildFailed, called, failed, leave_if_forked, raised, returned
from stoker.worker.system.aio import generation

Call = Callable[[], Awaitable[Any]]
_VERDICTS = (Returned, Fatal)
"""What a run may come back with instead of a value."""


class Executor:
    """Runs the tasks of one application: `concurrency` threads, and children for those that ask for a process."""

    def __init__(self, app: Stoker, settings: WorkerSettings) -> None:
        self._application = application_of(app)
        self._tasks = self._application.declarations
        self._generation = generation()
        self._timeout = settings.task_timeout
        self._deadlines = Deadlines()
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="stoker-task")
        self._processes = ProcessPool(settings.app, settings.children, settings.concurrency)

    async def close(self) -> None:
        """Take no more. A thread that still runs cannot be stopped from outside, and nobody waits for it; children end now."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._processes.close()

    def run(self, delivery: Delivery, message: Message) -> Awaitable[Outcome]:
        """The outcome of one run, to be awaited at once. Raises CancelledError only when the run itself is cancelled."""
        task = self._tasks.get(message.task)
        if task is None or message.version > task.policy.version:
            return _known(self._not_here(task, message))
        running.set((message, delivery))
        if task.executor == "process":
            return self._with_child(task, delivery, message)
        try:
            arguments = task.decode_arguments(bytes(message.payload))
        except Invalid as error:
            return _known(Fatal(Failure("InvalidArguments", str(error))))
        limits = self._limits(task, message)
        return self._call(task, partial(self._started, task, arguments, delivery, message, limits), limits)

    def _not_here(self, task: Declaration | None, message: Message) -> Unknown:
        if task is None:
            known = ", ".join(sorted(self._tasks)) or "none"
            return Unknown(Failure("UnknownTask", f"no task is named {message.task!r} here; known are: {known}"))
        words = f"{task.name} was enqueued with version {message.version}, this worker declares {task.policy.version}"
        return Unknown(Failure("NewerVersion", words))

    def _limits(self, task: Declaration, message: Message) -> Limits:
        """Seconds the run may take. A thread is only told: it could not be stopped, and would run on beside its retry."""
        return Limits(message.soft_timeout or task.policy.soft_timeout, message.timeout or task.policy.timeout or self._timeout)

    def _started(
        self, task: Declaration, arguments: dict[str, Any], delivery: Delivery, message: Message, limits: Limits
    ) -> Awaitable[Any]:
        """The function within its dependencies within the middleware. What is not there costs nothing."""
        application = self._application
        plan, layers = task.plan(application.dependency_overrides), application.run_layers
        if plan is None and not layers:
            return self._bare(task, arguments)
        call = partial(self._injected, task, plan, arguments) if plan else lambda _: self._bare(task, arguments)
        context = context_of(delivery, message, limits.told)
        return self._sent(task, context, onion(layers, call)(context))

    async def _sent(self, task: Declaration, context: Context, run: Awaitable[Any]) -> Any:
        """With what the run has sent, if it has."""
        value = await run
        children = run_of(context).children
        if not children:
            return value
        outcome = value if isinstance(value, Returned) else returned(task.name, value)
        if not isinstance(outcome, Returned):
            return outcome
        if self._application.enqueue_layers:
            await children.pass_through(partial(chains_through, self._application.enqueue_layers))
        return replace(outcome, children=children.written())

    def _bare(self, task: Declaration, arguments: dict[str, Any]) -> Awaitable[Any]:
        function = task.function
        return function(**arguments) if task.is_async else self._in_thread(lambda: function(**arguments))

    def _injected(self, task: Declaration, plan: Plan, arguments: dict[str, Any], context: Context) -> Awaitable[Any]:
        values: list[Any] = [context, self._application.state]

        def call() -> Any:
            return task.function(**arguments, **plan.given(values))

        here = call if task.is_async else lambda: self._in_thread(lambda: run_here_with(plan.inner, values, call), context)
        return run_with(plan.outer, values, here) if plan.outer else here()

    async def _call(self, task: Declaration, call: Call, limits: Limits) -> Outcome:
        deadline = self._deadlines.after(None if task.executor == "thread" else limits.hard)
        try:
            with deadline:
                value = await (softly(call(), limits.soft) if limits.soft and task.is_async else call())
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # sys.exit() and KeyboardInterrupt too: a task does not end its worker
            if isinstance(error, TimeoutError) and deadline.expired:
                return failed(Failure("TaskTimeout", f"did not end within {limits.hard:g} s"), TimeoutError, task.policy.retry)
            return raised(error, task.policy.retry)
        finally:
            leave_if_forked(self._generation)
        return value if isinstance(value, _VERDICTS) else returned(task.name, value)

    async def _in_thread(self, function: Callable[[], Any], told: Context | None = None) -> Any:
        variables = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: variables.run(called, function))
        except asyncio.CancelledError:
            if told:
                run_of(told).over.set()
            raise

    async def _with_child(self, task: Declaration, delivery: Delivery, message: Message) -> Outcome:
        try:
            async with self._processes.child() as child:  # its start is not the task's time
                limits = self._limits(task, message)
                return await self._call(task, partial(self._in_child, task, child, delivery, message, limits), limits)
        except NotStarted as error:
            return Raised(Failure("ProcessNotStarted", str(error)))

    async def _in_child(self, task: Declaration, child: Child, delivery: Delivery, message: Message, limits: Limits) -> Any:
        """The run in a child, within the middleware, which stays here and sees values and exceptions as everywhere."""
        layers, context = self._application.run_layers, context_of(delivery, message, limits.told)

        async def call(_: Context) -> Any:
            outcome = await child.run(delivery, carried(), limits, run_of(context).account)
            if not isinstance(outcome, Returned):
                raise ChildFailed(outcome)
            run_of(context).children.read(outcome.children)
            return msgspec.json.decode(outcome.value) if layers else outcome

        return await self._sent(task, context, onion(layers, call)(context))


async def _known(outcome: Outcome) -> Outcome:
    return outcome
