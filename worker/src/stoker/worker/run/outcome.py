"""What a function did, as an outcome: the same for the loop, for threads and for child processes."""

import os
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from stoker.errors import Dead, Invalid, Snooze, TryAgain
from stoker.rules.message import MAX_PAYLOAD_BYTES
from stoker.rules.retry import Retry
from stoker.rules.settle import Failure, Fatal, Outcome, Raised, RetryAsked, Returned, Snoozed
from stoker.task.values import write
from stoker.worker.system.aio import generation

TRACEBACK_CHARACTERS = 4000
MESSAGE_CHARACTERS = 1000


class ChildFailed(Exception):
    """What a child process reported, for the middleware around its run to see as an exception."""

    def __init__(self, outcome: Outcome) -> None:
        failure = getattr(outcome, "failure", None)
        super().__init__(f"{failure.type}: {failure.message}" if failure else repr(outcome))
        self.outcome = outcome


def returned(task: str, value: Any) -> Outcome:
    """What becomes of a return value: kept as JSON, or the complaint that it cannot be."""
    try:
        result = write(value)
    except Invalid as error:
        # Its work is done: running it again would do it twice for the same complaint.
        return Fatal(Failure("ResultNotJSON", f"{task} returned what JSON cannot carry: {error}"))
    if len(result) > MAX_PAYLOAD_BYTES:
        size = f"{task} returned {len(result)} bytes of JSON, at most {MAX_PAYLOAD_BYTES} are kept"
        return Fatal(Failure("ResultTooLarge", f"{size}: store it elsewhere and return where"))
    return Returned(result)


def raised(error: BaseException, retry: Retry | int | None) -> Outcome:
    """What an exception out of a task means, and whether the task's own retry policy is for its kind."""
    match error:
        case ChildFailed():
            return error.outcome
        case Dead():
            return Fatal(Failure("Dead", _words(error)))
        case Snooze():
            return Snoozed(error.seconds, _words(error))
        case TryAgain():
            return RetryAsked(_asked(error), error.delay, error.max_retries)
        case _:
            return failed(failure_of(error), type(error), retry)


def failed(failure: Failure, kind: type[BaseException], retry: Retry | int | None) -> Outcome:
    """A failure that may be tried again, unless the policy leaves out its kind."""
    return Fatal(failure) if isinstance(retry, Retry) and not retry.covers(kind) else Raised(failure)


def failure_of(error: BaseException) -> Failure:
    """What is kept of an exception."""
    text = "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]
    return Failure(type(error).__name__, _words(error), _unicode(text))


def leave_if_forked(before: int) -> None:
    """Where a task has forked and its copy comes back from the function: end the copy. The original reports the run.

    `before` is what `generation()` was in the original.
    """
    if generation() != before:
        os._exit(0)


def called(function: Callable[[], Any]) -> Any:
    """Call a plain function where a future waits for it."""
    before = generation()
    try:
        return function()
    except (StopIteration, GeneratorExit) as error:
        # No future can carry the one, and no coroutine that waits for a future would live through the other.
        raise RuntimeError(f"the task raised {type(error).__name__}") from error
    finally:
        leave_if_forked(before)


def _asked(error: TryAgain) -> Failure:
    cause = error.__cause__ or error.__context__
    if cause is None:
        return Failure("TryAgain", _words(error))
    failure = failure_of(cause)
    return msgspec.structs.replace(failure, type="TryAgain", message=_words(error) or f"{failure.type}: {failure.message}")


def _words(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # an exception may be too broken to say what it is
        text = "(its text could not be made)"
    return _unicode(text[:MESSAGE_CHARACTERS])


def _unicode(text: str) -> str:
    # Names of files may hold bytes that are no text; JSON could not carry them.
    return text.encode(errors="backslashreplace").decode()
