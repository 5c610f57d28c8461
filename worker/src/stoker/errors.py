"""Errors: one root, `StokerError`, for all that Stoker raises, so that callers can catch the family or the case.

Exceptions that a *task* raises on purpose (`Dead`, `Snooze`, `TryAgain`) have another root, `Instruction`: they direct the worker.
"""

from collections.abc import Sequence

LONGEST = 36_500 * 86400.0
"""A century in seconds: beyond it, times in milliseconds would no longer be exact in Redis."""


class StokerError(Exception):
    """The root. The message says what was refused or failed, and what to do about it."""


class Invalid(StokerError):
    """The caller's input is wrong: a manifest, a payload, an id, a setting. `field` is the one of a request that is at fault."""

    def __init__(self, text: str = "", field: str = "") -> None:
        super().__init__(text)
        self.field = field


class InvalidArguments(Invalid):
    """An argument is not of the type that the task declares. `field` is the parameter's name, "" where it is not known."""


class Conflict(StokerError):
    """A task with this id exists already and is another task."""


class NotFound(StokerError):
    """No task with this id is in that queue or state."""


class Ambiguous(StokerError):
    """Several queues have a task with this id, and the caller did not say which queue."""


class ResultPending(StokerError):
    """The task did not end within the timeout of the wait."""


class TaskFailed(StokerError):
    """The awaited task ended without a result: it is dead, was cancelled, or is forgotten.

    Of a dead one, `type`, `message` and `traceback` are those of its last failure, as text.
    """

    def __init__(self, text: str, *, type: str = "", message: str = "", traceback: str = "") -> None:  # noqa: A002
        super().__init__(text)
        self.type = type
        self.message = message
        self.traceback = traceback


class RedisUnavailable(StokerError):
    """Redis does not answer, or is loading. Whether the last call took effect is unknown; it may be retried."""


class NotDurable(StokerError):
    """The tasks `ids` are enqueued, but Redis has not confirmed the requested durability.

    Enqueued again with the same ids, they make no second task, and the confirmation is awaited again.
    """

    def __init__(self, message: str, ids: Sequence[str]) -> None:
        super().__init__(message)
        self.ids = list(ids)


class RedisRefused(StokerError):
    """Redis answered with a permanent error: missing permission, out of memory, read-only."""


class RedisFull(RedisRefused):
    """Redis is at its maxmemory: it accepts no new tasks until queues drain or it gets more memory."""


class RedisUnreadable(RedisRefused):
    """Redis answered with something no Stoker script returns, or holds what no Stoker wrote."""


class Instruction(Exception):
    """Raised by a task to direct its worker. Not a failure, except where the subclass says so."""


class Dead(Instruction):
    """Raised by a task that can never succeed: it becomes dead at once, with this text as the reason."""


class Snooze(Instruction):
    """Raised by a task to run again after `seconds`. No attempt is charged, and it does not count as a failure."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= LONGEST:
            raise Invalid(f"bad snooze of {seconds!r}: use a number of seconds above 0")
        super().__init__(reason or f"for {seconds:g} s")
        self.seconds = float(seconds)
        self.reason = reason


class TryAgain(Instruction):
    """Raised by a task, as `raise ctx.retry(...)`: this attempt has failed, retry in `delay` seconds.

    None leaves `delay` and `max_retries` to the retry policy. Without a `reason`, the exception it was raised from is the reason.
    """

    def __init__(self, delay: float | None = None, reason: str = "", *, max_retries: int | None = None) -> None:
        if delay is not None and (not isinstance(delay, int | float) or isinstance(delay, bool) or not 0 <= delay <= LONGEST):
            raise Invalid(f"bad delay {delay!r} of a retry: use a number of seconds, 0 or more")
        if max_retries is not None and (not isinstance(max_retries, int) or isinstance(max_retries, bool) or max_retries < 0):
            raise Invalid(f"bad max_retries {max_retries!r} of a retry: use a whole number, 0 or more")
        super().__init__(reason)
        self.delay = delay
        self.reason = reason
        self.max_retries = max_retries


class SoftTimeout(Exception):
    """Raised in an async task or a child process at its soft timeout: clean up and return, or let it propagate and be retried."""
