"""What an application keeps open for as long as a worker process lives: entered before the first task, left after the last."""

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from stoker.app import Stoker
from stoker.errors import Invalid
from stoker.worker.ending import end

LEFT_WITHIN = 10.0
"""Seconds that leaving may take, after everything is settled."""
T = TypeVar("T")
_log = logging.getLogger("stoker.worker")


class Lifespan:
    """The application's lifespan in a task of its own, since some context managers must be left by the task that entered them.

    What it sets in context variables is seen by everything that is begun with `beside`.
    """

    def __init__(self, app: Stoker) -> None:
        self._app = app
        self._context = contextvars.copy_context()
        self._over = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether somebody has begun to enter it."""
        return self._life is not None

    async def start(self) -> None:
        """Returns when it is entered. Raises Invalid where it fails, or yields what is no fit State for a task."""
        entered = asyncio.get_running_loop().create_future()
        self._life = self.beside(self._live(entered))
        try:
            await asyncio.wait([entered, self._life], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await end(self._life)
            raise
        if self._life.done():
            error = self._life.exception()
            _log.error("the lifespan failed", exc_info=error)
            raise Invalid(f"the lifespan of {self._app.name} failed before its first task: {type(error).__name__}: {error}")

    async def stop(self) -> None:
        """Leave it, if it was entered. Never raises: every task is settled, and what fails now is only logged."""
        if self._life is None:
            return
        self._over.set()
        _, late = await asyncio.wait([self._life], timeout=LEFT_WITHIN)
        if late:
            _log.error("the lifespan is not left in time, it is given up", extra={"seconds": LEFT_WITHIN})
            await end(self._life)
        elif not self._life.cancelled() and (error := self._life.exception()):
            _log.error("the lifespan failed at its end", exc_info=error)

    def beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task that sees the context variables of the lifespan."""
        return asyncio.get_running_loop().create_task(work, context=self._context)

    async def _live(self, entered: asyncio.Future[None]) -> None:
        async with self._app.entered():
            entered.set_result(None)
            await self._over.wait()
