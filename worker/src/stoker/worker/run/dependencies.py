"""Dependencies of one run: opened before it, closed before its outcome counts. And the run's Context."""

import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from stoker.queue.records import Delivery
from stoker.rules.message import Message
from stoker.task.context import Children, Context, Run
from stoker.task.dependencies import Kind, Step, name_of
from stoker.telemetry.logs import TaskLog, task_fields
from stoker.worker.run.progress import current_progress

R = TypeVar("R")
_NOTHING: Any = object()


async def run_with(steps: Sequence[Step], values: list[Any], call: Callable[[], Awaitable[R]]) -> R:
    """Open these on the event loop, call, and close them in reverse order. The value of each is appended to `values`.

    An error is thrown into every open dependency. One may raise another error instead, but none can suppress it.
    """
    opened: list[Any] = []
    try:
        for step in steps:
            values.append(await _open(step, values, opened))
        result = await call()
    except BaseException as error:
        raised = await _close(opened, error) or error
        if raised is error:
            raise
        raise raised  # noqa: B904 (it has the error as its context by itself)
    if failure := await _close(opened, None):
        raise failure
    return result


def run_here_with(steps: Sequence[Step], values: list[Any], call: Callable[[], R]) -> R:
    """The same for synchronous dependencies, in the current thread."""
    opened: list[Any] = []
    try:
        for step in steps:
            values.append(_open_here(step, values, opened))
        result = call()
    except BaseException as error:
        raised = _close_here(opened, error) or error
        if raised is error:
            raise
        raise raised  # noqa: B904 (it has the error as its context by itself)
    if failure := _close_here(opened, None):
        raise failure
    return result


async def _open(step: Step, values: Sequence[Any], opened: list[Any]) -> Any:
    if not step.kind.needs_the_loop:
        return _open_here(step, values, opened)
    made = step.factory(**{name: values[at] for name, at in step.arguments})
    if step.kind is Kind.AWAITED:
        return await made
    value = await anext(made, _NOTHING)
    if value is _NOTHING:
        raise RuntimeError(f"dependency {name_of(step.factory)} yielded nothing")
    opened.append(made)
    return value


def _open_here(step: Step, values: Sequence[Any], opened: list[Any]) -> Any:
    made = step.factory(**{name: values[at] for name, at in step.arguments})
    if step.kind is Kind.PLAIN:
        return made
    value = next(made, _NOTHING)
    if value is _NOTHING:
        raise RuntimeError(f"dependency {name_of(step.factory)} yielded nothing")
    opened.append(made)
    return value


async def _close(opened: list[Any], error: BaseException | None) -> BaseException | None:
    """The final error: the one given, or the last that closing raised."""
    while opened:
        generator = opened.pop()
        if not inspect.isasyncgen(generator):
            error = _close_here([generator], error)
            continue
        try:
            await (generator.athrow(error) if error else anext(generator))
        except StopAsyncIteration:
            continue
        except BaseException as raised:
            error = _later(error, raised)
        else:
            error = await _second_yield(generator)
    return error


def _close_here(opened: list[Any], error: BaseException | None) -> BaseException | None:
    while opened:
        generator = opened.pop()
        try:
            generator.throw(error) if error else next(generator)
        except StopIteration:
            continue
        except BaseException as raised:
            error = _later(error, raised)
        else:
            generator.close()
            error = RuntimeError(f"dependency {generator.__qualname__} yields more than once")
    return error


def _later(error: BaseException | None, raised: BaseException) -> BaseException:
    # Python wraps a StopIteration that leaves a generator: that is still the same error.
    return error if error and raised.__cause__ is error else raised


async def _second_yield(generator: Any) -> BaseException:
    await generator.aclose()
    return RuntimeError(f"dependency {generator.__qualname__} yields more than once")


_log = logging.getLogger("stoker.task")


def context_of(delivery: Delivery, message: Message, limit: float | None, max_retries: int) -> Context:
    """The Context of a run that begins now and may take `limit` seconds."""
    progress = current_progress.get()
    sink = progress.of(delivery) if progress else None
    log = TaskLog(_log, task_fields(message, delivery), sink.line if sink else None)
    moment = None if message.scheduled_for is None else datetime.fromtimestamp(message.scheduled_for / 1000, UTC)
    return Context(
        id=message.id,
        task=message.task,
        queue=message.queue,
        attempt=delivery.attempt,
        fence=delivery.fence,
        log=log,
        schedule=message.schedule,
        scheduled_for=moment,
        headers=message.headers,
        deadline=math.inf if limit is None else time.monotonic() + limit,
        max_retries=max_retries,
        last_attempt=delivery.failures >= max_retries,
        _run=Run(Children(message.id, message.created), sink),
    )
