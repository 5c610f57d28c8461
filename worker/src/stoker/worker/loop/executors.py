"""Executor: runs a delivery's function, async ones on the loop, others in threads or child processes, and returns the outcome."""

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
from stoker.telemetry.tracing import current_carrier
from stoker.worker.children.pool import Child, NotStarted, ProcessPool
from stoker.worker.run.deadline import Deadlines, Limits, run_softly
from stoker.worker.run.dependencies import context_of, run_here_with, run_with
from stoker.worker.run.outcome import ChildFailed, call_plain, exit_if_forked, failed, is_taken, raised, returned
from stoker.worker.run.retries import retry_policy
from stoker.worker.system.aio import generation

Call = Callable[[], Awaitable[Any]]
THREADS = "stoker-task"
"""The beginning of the names of threads."""
_OUTCOMES = (Returned, Fatal)
"""A run may return one of these instead of a value."""


class Executor:
    """Runs the tasks of one application: with `concurrency` threads, or `threads` that it shares, and with child processes."""

    def __init__(self, app: Stoker, settings: WorkerSettings, threads: ThreadPoolExecutor | None = None) -> None:
        self._application = application_of(app)
        self._tasks = self._application.declarations
        self._generation = generation()
        self._timeout = settings.task_timeout
        self._retry = settings.retry
        self._deadlines = Deadlines()
        self._shared = threads
        self._threads = threads or ThreadPoolExecutor(settings.concurrency, thread_name_prefix=THREADS)
        self._processes = ProcessPool(settings.app, settings.children, settings.concurrency)

    async def close(self) -> None:
        """Take no more. Threads that still run cannot be stopped and are not waited for; children are killed."""
        if self._shared is None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        await self._processes.close()

    def run(self, delivery: Delivery, message: Message) -> Awaitable[Outcome]:
        """The outcome of one run, to be awaited at once. Raises CancelledError when the run itself is cancelled."""
        task = self._tasks.get(message.task)
        if task is None or message.version > task.policy.version:
            return _known(Unknown(message.task, message.version))
        running.set((message, delivery))
        if task.executor == "process":
            return self._with_child(task, delivery, message)
        try:
            arguments = task.decode_arguments(bytes(message.payload))
        except Invalid as error:
            return _known(Fatal(Failure("InvalidArguments", str(error))))
        limits = self._limits(task, message)
        return self._call(task, message, partial(self._started, task, arguments, delivery, message, limits), limits)

    def _limits(self, task: Declaration, message: Message) -> Limits:
        """Seconds the run may take. A thread only sees its hard limit in the Context: it cannot be stopped, and would run on beside
        its retry.
        """
        return Limits(message.soft_timeout or task.policy.soft_timeout, message.timeout or task.policy.timeout or self._timeout)

    def _retries(self, task: Declaration, message: Message) -> int:
        return retry_policy(self._retry, task, message).max_retries

    def _started(
        self, task: Declaration, arguments: dict[str, Any], delivery: Delivery, message: Message, limits: Limits
    ) -> Awaitable[Any]:
        """The function within its dependencies within the middleware. A task without them costs nothing extra."""
        application = self._application
        plan, layers = task.plan(application.dependency_overrides), application.run_layers
        if plan is None and not layers:
            return self._bare(task, arguments)
        call = partial(self._injected, task, plan, arguments) if plan else lambda _: self._bare(task, arguments)
        context = context_of(delivery, message, limits.first, self._retries(task, message))
        return self._with_children(task, message, context, onion(layers, call)(context))

    async def _with_children(self, task: Declaration, message: Message, context: Context, run: Awaitable[Any]) -> Any:
        """The value of the run; with the tasks that it has enqueued, if any, an outcome that carries them."""
        value = await run
        children = run_of(context).children
        if not children:
            return value
        outcome = value if isinstance(value, Returned) else returned(task.name, value, taken=is_taken(task, message))
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

    async def _call(self, task: Declaration, message: Message, call: Call, limits: Limits) -> Outcome:
        deadline = self._deadlines.after(None if task.executor == "thread" else limits.hard)
        try:
            with deadline:
                value = await (run_softly(call(), limits.soft) if limits.soft and task.is_async else call())
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # sys.exit() and KeyboardInterrupt too: they must not end the worker
            if isinstance(error, TimeoutError) and deadline.expired:
                return failed(Failure("TaskTimeout", f"did not end within {limits.hard:g} s"), TimeoutError, task.policy.retry)
            return raised(error, task.policy.retry)
        finally:
            exit_if_forked(self._generation)
        return value if isinstance(value, _OUTCOMES) else returned(task.name, value, taken=is_taken(task, message))

    async def _in_thread(self, function: Callable[[], Any], context: Context | None = None) -> Any:
        variables = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: variables.run(call_plain, function))
        except asyncio.CancelledError:
            if context:
                run_of(context).over.set()
            raise

    async def _with_child(self, task: Declaration, delivery: Delivery, message: Message) -> Outcome:
        try:
            async with self._processes.child() as child:  # its start does not count against the timeout
                limits = self._limits(task, message)
                return await self._call(task, message, partial(self._in_child, task, child, delivery, message, limits), limits)
        except NotStarted as error:
            return Raised(Failure("ProcessNotStarted", str(error)))

    async def _in_child(self, task: Declaration, child: Child, delivery: Delivery, message: Message, limits: Limits) -> Any:
        """The run in a child, within the middleware, which runs here and sees values and exceptions as usual."""
        layers, context = self._application.run_layers, context_of(delivery, message, limits.first, self._retries(task, message))

        async def call(_: Context) -> Any:
            outcome = await child.run(delivery, current_carrier(), limits, context.max_retries, run_of(context).sink)
            if not isinstance(outcome, Returned):
                raise ChildFailed(outcome)
            run_of(context).children.read(outcome.children)
            return msgspec.json.decode(outcome.value) if layers else outcome

        return await self._with_children(task, message, context, onion(layers, call)(context))


async def _known(outcome: Outcome) -> Outcome:
    return outcome
