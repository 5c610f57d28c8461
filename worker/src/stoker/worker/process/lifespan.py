"""Lifespan of an application in a worker process: entered before the first task, left after the last."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stoker.app.app import Stoker, application_of
from stoker.errors import Invalid
from stoker.worker.system.aio import cancel_all, hidden

EXIT_TIMEOUT = 10.0
"""Seconds that leaving the lifespan may take, after everything is settled."""
CANCEL_TIMEOUT = 2.0
"""Seconds that it may take to end when it is cancelled: it may ignore that."""
T = TypeVar("T")
_log = logging.getLogger("stoker.worker")


class Lifespan:
    """Runs in its own asyncio task, since some context managers must be left by the task that entered them.

    Context variables that it sets are seen by everything started with `beside`. `lost` is called where it ends by itself.
    """

    def __init__(self, app: Stoker, lost: Callable[[], object] | None = None) -> None:
        self._app = app
        self._lost = lost
        self._context = contextvars.copy_context()
        self._over = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether `start` was called."""
        return self._life is not None

    async def start(self) -> None:
        """Enter it. Raises Invalid when it fails, or yields another type than a task's State asks for."""
        entered = asyncio.get_running_loop().create_future()
        self._life = self.beside(self._live(entered))
        try:
            await asyncio.wait([entered, self._life], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._over.set()
            await cancel_all(self._life, within=CANCEL_TIMEOUT)
            raise
        if self._life.done():
            raise Invalid(f"the lifespan of {self._app.name} failed before its first task: {_end_of(self._life)}")
        self._life.add_done_callback(self._ended)

    def check(self) -> None:
        """Raises Invalid when it ended before `stop` was called."""
        if self._life and not self._over.is_set():
            raise Invalid(f"the lifespan of {self._app.name} ended while the worker ran: {_end_of(self._life)}")

    async def stop(self) -> None:
        """Leave it, if it was entered. Never raises: every task is settled, and failures are only logged."""
        if self._life is None or self._life.done():
            return
        self._over.set()
        _, late = await asyncio.wait([self._life], timeout=EXIT_TIMEOUT)
        if late:
            _log.error("the lifespan did not end in time: cancelled", extra={"seconds": EXIT_TIMEOUT})
        await cancel_all(self._life, within=CANCEL_TIMEOUT)

    def _ended(self, life: asyncio.Task[None]) -> None:
        if not self._over.is_set() and self._lost:
            self._lost()

    def beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start an asyncio task that sees the lifespan's context variables."""
        return hidden(asyncio.get_running_loop().create_task(work, context=self._context))

    async def _live(self, entered: asyncio.Future[None]) -> None:
        try:
            async with application_of(self._app).entered():
                entered.set_result(None)
                await self._over.wait()
        except Exception:
            _log.exception("the lifespan failed")
            raise


def _end_of(life: asyncio.Task[None]) -> str:
    error = None if life.cancelled() else life.exception()
    return f"{type(error).__name__}: {error}" if error else "it was cancelled"
