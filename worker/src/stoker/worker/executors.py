"""Run one delivery's function and say how it ended: async functions on the loop, plain ones in threads or in child processes."""

import asyncio
import contextvars
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stoker.errors import Invalid
from stoker.queue.broker import Delivery
from stoker.rules.message import Message
from stoker.rules.settle import Failure, Hopeless, Outcome, Raised, Unknown
from stoker.settings import WorkerSettings
from stoker.task import Task
from stoker.telemetry.tracing import carried
from stoker.worker.deadline import Deadline
from stoker.worker.pool import NotStarted, ProcessPool
from stoker.worker.running import context_of
from stoker.worker.verdict import called, raised, returned


class Executor:
    """Runs the tasks of one application: `concurrency` threads, and children for those that ask for a process."""

    def __init__(self, tasks: Mapping[str, Task[..., Any]], settings: WorkerSettings) -> None:
        self._tasks = tasks
        self._timeout = settings.task_timeout
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="stoker-task")
        self._processes = ProcessPool(settings.app, settings.children, settings.concurrency)

    async def close(self) -> None:
        """Take no more. A thread that still runs cannot be stopped from outside, and nobody waits for it; children end now."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._processes.close()

    async def run(self, delivery: Delivery, message: Message) -> Outcome:
        """The outcome of one run. Raises CancelledError only when the run itself is cancelled."""
        task = self._tasks.get(message.task)
        if task is None:
            known = ", ".join(sorted(self._tasks)) or "none"
            return Unknown(Failure("UnknownTask", f"no task is named {message.task!r} here; known are: {known}"))
        if task.executor == "process":
            return await self._in_process(task, delivery, message)
        try:
            arguments = task.decode_arguments(bytes(message.payload))
        except Invalid as error:
            return Hopeless(Failure("InvalidArguments", str(error)))
        if task.context_parameter:
            arguments[task.context_parameter] = context_of(delivery, message)
        return await self._here(task, arguments, self._limit(task, message))

    def _limit(self, task: Task[..., Any], message: Message) -> float | None:
        """Seconds the run may take. None for a thread: it could not be stopped, and would run on beside its retry."""
        if task.executor == "thread":
            return None
        return message.timeout or task.policy.timeout or self._timeout

    async def _here(self, task: Task[..., Any], arguments: dict[str, Any], limit: float | None) -> Outcome:
        deadline = Deadline(limit)
        try:
            with deadline:
                value = await (task.function(**arguments) if task.is_async else self._in_thread(task, arguments))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # sys.exit() and KeyboardInterrupt too: a task does not end its worker
            return _too_late(limit) if isinstance(error, TimeoutError) and deadline.expired else raised(error)
        return returned(task.name, value)

    async def _in_thread(self, task: Task[..., Any], arguments: dict[str, Any]) -> Any:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: context.run(called, task.function, arguments))

    async def _in_process(self, task: Task[..., Any], delivery: Delivery, message: Message) -> Outcome:
        limit = self._limit(task, message)
        deadline = Deadline(limit)
        try:
            async with self._processes.child() as child:
                with deadline:  # the start of a child is not the task's time
                    return await child.run(delivery, carried())
        except NotStarted as error:
            return Raised(Failure("ProcessNotStarted", str(error)))
        except TimeoutError:
            if deadline.expired:
                return _too_late(limit)
            raise


def _too_late(limit: float | None) -> Outcome:
    return Raised(Failure("TaskTimeout", f"did not end within {limit:g} s"))
