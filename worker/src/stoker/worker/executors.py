"""Run one delivery's function and say how it ended. Async functions on the loop, plain ones in threads."""

import asyncio
import contextvars
import logging
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from stoker.context import Children, Context
from stoker.errors import Dead, Invalid
from stoker.queue.broker import Delivery
from stoker.rules.message import MAX_PAYLOAD_BYTES, Message
from stoker.rules.plan import root_of
from stoker.rules.settle import Failure, Hopeless, Outcome, Raised, Returned, Unknown
from stoker.task import Task
from stoker.telemetry.logs import TaskLog
from stoker.worker.deadline import Deadline

TRACEBACK_CHARACTERS = 4000
MESSAGE_CHARACTERS = 1000
_log = logging.getLogger("stoker.task")
_encode = msgspec.json.Encoder().encode


class Executor:
    """Runs the tasks of one application, `slots` threads for the plain functions among them."""

    def __init__(self, tasks: Mapping[str, Task[..., Any]], timeout: float, slots: int) -> None:
        self._tasks = tasks
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="stoker-task")

    def close(self) -> None:
        """Take no more. A thread that still runs cannot be stopped from outside; nobody waits for it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, delivery: Delivery, message: Message) -> Outcome:
        """The outcome of one run. Raises CancelledError only when the run itself is cancelled."""
        task = self._tasks.get(message.task)
        if task is None:
            known = ", ".join(sorted(self._tasks)) or "none"
            return Unknown(Failure("UnknownTask", f"no task is named {message.task!r} here; known are: {known}"))
        try:
            arguments = task.decode_arguments(bytes(message.payload))
        except Invalid as error:
            return Hopeless(Failure("InvalidArguments", str(error)))
        if task.context_parameter:
            context = arguments[task.context_parameter] = _context(delivery, message)
            outcome = await self._call(task, arguments, self._limit(task, message))
            return Returned(outcome.value, context.children.chains) if isinstance(outcome, Returned) else outcome
        return await self._call(task, arguments, self._limit(task, message))

    def _limit(self, task: Task[..., Any], message: Message) -> float | None:
        """Seconds the run may take. None for a thread: it could not be stopped, and would run on beside its retry."""
        if not task.is_async:
            return None
        return message.timeout or task.policy.timeout or self._timeout

    async def _call(self, task: Task[..., Any], arguments: dict[str, Any], limit: float | None) -> Outcome:
        deadline = Deadline(limit)
        try:
            with deadline:
                value = await (task.function(**arguments) if task.is_async else self._in_thread(task, arguments))
        except Dead as reason:
            return Hopeless(Failure("Dead", _words(reason)))
        except TimeoutError as error:
            if deadline.expired:
                return Raised(Failure("TaskTimeout", f"did not end within {limit:g} s"))
            return Raised(failure_of(error))
        except (Exception, SystemExit) as error:
            return Raised(failure_of(error))
        try:
            result = _encode(value)
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            # Its work is done: running it again would do it twice for the same complaint.
            return Hopeless(Failure("ResultNotJSON", f"{task.name} returned what JSON cannot carry: {error}"))
        if len(result) > MAX_PAYLOAD_BYTES:
            size = f"{task.name} returned {len(result)} bytes of JSON, at most {MAX_PAYLOAD_BYTES} are kept"
            return Hopeless(Failure("ResultTooLarge", f"{size}: store it elsewhere and return where"))
        return Returned(result)

    async def _in_thread(self, task: Task[..., Any], arguments: dict[str, Any]) -> Any:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: context.run(_called, task.function, arguments))


def _context(delivery: Delivery, message: Message) -> Context:
    fields = {"task_id": message.id, "task": message.task, "queue": message.queue, "attempt": delivery.attempt}
    log = TaskLog(_log, fields)
    children = Children(root_of(message.id, message.created))
    return Context(message.id, message.task, message.queue, delivery.attempt, delivery.fence, log, children)


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as error:
        # No future can carry this one: whoever waited for it would wait for ever.
        raise RuntimeError("the task raised StopIteration") from error


def failure_of(error: BaseException) -> Failure:
    """What is kept of an exception."""
    text = "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]
    return Failure(type(error).__name__, _words(error), _unicode(text))


def _words(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # an exception may be too broken to say what it is
        text = "(its text could not be made)"
    return _unicode(text[:MESSAGE_CHARACTERS])


def _unicode(text: str) -> str:
    # Names of files may hold bytes that are no text; JSON could not carry them.
    return text.encode(errors="backslashreplace").decode()
