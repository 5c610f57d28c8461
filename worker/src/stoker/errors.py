"""Every error that Stoker raises on purpose has one root, so that callers can catch the family or the case.

What a *task* raises on purpose (`Dead`, `Snooze`, ...) is apart: it is an instruction to the worker, not a failure of Stoker.
"""

from collections.abc import Sequence

LONGEST = 36_500 * 86400.0
"""A century in seconds: beyond it, times in milliseconds would no longer be exact in Redis."""


class StokerError(Exception):
    """The root: something Stoker refuses or cannot do, with a message that says what to do about it."""


class Invalid(StokerError):
    """The caller's input is wrong: a manifest, a payload, an id, a setting. `field` is the one of a request that is at fault."""

    def __init__(self, text: str = "", field: str = "") -> None:
        super().__init__(text)
        self.field = field


class Conflict(StokerError):
    """A task with this id exists already and is another task."""


class NotFound(StokerError):
    """No task with this id is in that place."""


class ResultPending(StokerError):
    """The task did not end within the time the caller was willing to wait."""


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
    """Redis does not answer, or is loading. Nothing is known about the last call; it may be tried again."""


class NotDurable(StokerError):
    """The tasks `ids` are enqueued, but Redis has not confirmed the durability that was asked for.

    Sent again with the same ids, they are not enqueued twice, and the guarantee is waited for once more.
    """

    def __init__(self, message: str, ids: Sequence[str]) -> None:
        super().__init__(message)
        self.ids = list(ids)


class RedisRefused(StokerError):
    """Redis answered with an error that will not pass by itself: no rights, no memory, read-only."""


class RedisFull(RedisRefused):
    """Redis is at its maxmemory: nothing new is taken until the queues drain or it is given more."""


class Instruction(Exception):
    """What a task raises to say what is to become of it. No failure, unless it says so itself."""


class Dead(Instruction):
    """Raised by a task: this can never succeed, bury it now. Its text becomes the reason."""


class Snooze(Instruction):
    """Raised by a task: not yet, run me again in so many seconds. No attempt is charged and nothing counts as failed."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
            raise Invalid(f"bad snooze of {seconds!r}: use a number of seconds above 0")
        super().__init__(reason or f"for {seconds:g} s")
        self.seconds = float(seconds)
        self.reason = reason


class TryAgain(Instruction):
    """Raised by a task, as `raise ctx.retry(...)`: this attempt has failed, run me again in `delay` seconds.

    None leaves the wait to the retry policy, and `max_retries` too. Without a `reason`, what it was raised from is the reason.
    """

    def __init__(self, delay: float | None = None, reason: str = "", *, max_retries: int | None = None) -> None:
        if delay is not None and (not isinstance(delay, int | float) or not 0 <= delay <= LONGEST):
            raise Invalid(f"bad delay {delay!r} of a retry: use a number of seconds, 0 or more")
        super().__init__(reason)
        self.delay = delay
        self.reason = reason
        self.max_retries = max_retries


class SoftTimeout(Exception):
    """Raised in a task, not in a thread, when its soft timeout is over: tidy up and return, or let it pass and be tried again."""
