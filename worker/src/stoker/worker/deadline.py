"""The time limit of one run: `asyncio.timeout` for the hot path, at a third of its cost, and more insistent."""

import asyncio

ASK_AGAIN = 5.0


class Deadline:
    """Cancels the current task of the event loop after `limit` seconds (None = never) and turns that into TimeoutError.

    A cancellation that the task caught, or that was lost on its way, is asked for again.
    """

    __slots__ = ("_asked", "_cancelling", "_limit", "_task", "_timer")

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def expired(self) -> bool:
        """Whether the time was over before the run."""
        return self._asked > 0

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if self._limit is not None and task is not None:
            self._task = task
            self._cancelling = task.cancelling()
            self._timer = task.get_loop().call_later(self._limit, self._expire)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        if self._asked:
            for _ in range(self._asked):
                left = self._task.uncancel()
            if kind is asyncio.CancelledError and left <= self._cancelling:
                raise TimeoutError from error

    def _expire(self) -> None:
        self._asked += 1
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(ASK_AGAIN, self._expire)
