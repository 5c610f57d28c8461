"""Outcomes: from a function's return value or exception. The same for the loop, threads and child processes."""

import os
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from stoker.errors import Dead, Snooze, TryAgain
from stoker.rules.fingerprint import fingerprint
from stoker.rules.message import MAX_PAYLOAD_BYTES, Message
from stoker.rules.retry import Retry
from stoker.rules.settle import Failure, Fatal, Outcome, Raised, RetryAsked, Returned, Snoozed
from stoker.task.declaration import Declaration
from stoker.task.values import write
from stoker.worker.run.frames import own_frame
from stoker.worker.system.aio import generation
from stoker.worker.system.garbage import collector

TRACEBACK_CHARACTERS = 4000
MESSAGE_CHARACTERS = 1000


class ChildFailed(Exception):
    """A child's failed outcome as an exception, which the middleware around its run sees."""

    def __init__(self, outcome: Outcome) -> None:
        failure = getattr(outcome, "failure", None)
        super().__init__(f"{failure.type}: {failure.message}" if failure else repr(outcome))
        self.outcome = outcome


def is_taken(task: Declaration, message: Message) -> bool:
    """Whether the value of the run is kept, or goes to the next link of a workflow."""
    return not task.policy.ignore_result or message.onward is not msgspec.UNSET


def returned(task: str, value: Any, *, taken: bool = True) -> Outcome:
    """Returned with the value as JSON; Fatal when it is not JSON or too large. Without the value where it is not taken."""
    if not taken:
        return Returned(b"null")
    try:
        result = write(value)
    except BaseException as error:  # Invalid, or whatever the value's own class raises
        # Its work is done: a retry would repeat it and fail in the same way.
        return Fatal(Failure("ResultNotJSON", f"{task} returned what JSON cannot represent: {_text(error)}"))
    if len(result) > MAX_PAYLOAD_BYTES:
        size = f"{task} returned {len(result)} bytes of JSON, at most {MAX_PAYLOAD_BYTES} are kept"
        return Fatal(Failure("ResultTooLarge", f"{size}: store it elsewhere and return where"))
    return Returned(result)


def raised(error: BaseException, retry: Retry | int | None) -> Outcome:
    """The outcome of an exception. `retry` is the task's retry policy, which may leave out its type. Never raises."""
    try:
        return _outcome_of(error, retry)
    except BaseException as trouble:  # its class may override anything: a run without an outcome would never be settled
        return Raised(_undescribed(error, trouble))


def _outcome_of(error: BaseException, retry: Retry | int | None) -> Outcome:
    match error:
        case ChildFailed():
            return error.outcome
        case Dead():
            return Fatal(Failure("Dead", _text(error)))
        case Snooze():
            return Snoozed(error.seconds, _text(error))
        case TryAgain():
            return RetryAsked(_retry_asked(error), error.delay, error.max_retries)
        case _:
            return failed(failure_of(error), type(error), retry)


def failed(failure: Failure, kind: type[BaseException], retry: Retry | int | None) -> Outcome:
    """A failure to be retried, unless the policy leaves out its type."""
    return Fatal(failure) if isinstance(retry, Retry) and not retry.covers(kind) else Raised(failure)


def failure_of(error: BaseException) -> Failure:
    """Type, message, traceback and fingerprint of an exception, shortened. Never raises, whatever the exception's class does."""
    try:
        kind, text = type(error).__name__, _text(error)
        mark = _unicode(fingerprint(kind, own_frame(error), text))
        return Failure(kind, text, _unicode(_traceback(error)[-TRACEBACK_CHARACTERS:]), mark)
    except BaseException as trouble:
        return _undescribed(error, trouble)


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # a SyntaxError with odd fields; before Python 3.13 a `__getattr__` that raises KeyError
        return "".join(["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)])


def _undescribed(error: BaseException, trouble: BaseException) -> Failure:
    name = type.__dict__["__name__"].__get__  # a metaclass may override it
    return Failure(name(type(error)), f"(describing it raised {name(type(trouble))})")


def exit_if_forked(before: int) -> None:
    """End a forked copy of the process that returns from a task's function. The original reports the run.

    `before` is `generation()` of the original.
    """
    if generation() != before:
        os._exit(0)


def call_plain(function: Callable[[], Any]) -> Any:
    """Call a synchronous function whose result goes into a future."""
    before = generation()
    try:
        return function()
    except (StopIteration, GeneratorExit) as error:
        # A future cannot hold StopIteration, and GeneratorExit would end the coroutine that awaits it.
        raise RuntimeError(f"the task raised {type(error).__name__}") from error
    finally:
        exit_if_forked(before)
        collector.look()  # here too: threads end many runs before the event loop sees them


def _retry_asked(error: TryAgain) -> Failure:
    cause = error.__cause__ or error.__context__
    if cause is None:
        return Failure("TryAgain", _text(error))
    failure = failure_of(cause)
    return msgspec.structs.replace(failure, type="TryAgain", message=_text(error) or f"{failure.type}: {failure.message}")


def _text(error: BaseException) -> str:
    try:
        text = str.__str__(str(error))  # not a subclass of str, whose methods may be broken too
    except BaseException:  # its __str__ may be broken, or call sys.exit()
        text = "(its __str__ failed)"
    return _unicode(text[:MESSAGE_CHARACTERS])


def _unicode(text: str) -> str:
    # File names may hold bytes that are no text, which JSON cannot represent.
    return text.encode(errors="backslashreplace").decode()
