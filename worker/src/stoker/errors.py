"""Every error that Stoker raises on purpose has one root, so that callers can catch the family or the case.

What a *task* raises on purpose (`Dead`) is apart: it is an instruction to the worker, not a failure of Stoker.
"""

from collections.abc import Sequence


class StokerError(Exception):
    """The root: something Stoker refuses or cannot do, with a message that says what to do about it."""


class Invalid(StokerError):
    """The caller's input is wrong: a manifest, a payload, an id, a setting."""


class Conflict(StokerError):
    """A task with this id exists already and is another task."""


class NotFound(StokerError):
    """No task with this id is in that place."""


class ResultPending(StokerError):
    """The task did not end within the time the caller was willing to wait."""


class TaskFailed(StokerError):
    """The awaited task ended without a result: it is dead or was cancelled."""


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


class Dead(Exception):
    """Raised by a task: this can never succeed, bury it now. Its text becomes the reason."""
