"""Keeps the watches alive: runs kopf, notices when a watch has ended or is deaf, and restarts all of them.

kopf's watcher of one resource in one namespace ends for good when its list is refused, or an object cannot be decoded, while the
process goes on.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Collection

from stoker_operator import metrics
from stoker_operator.state.witness import Witness

log = logging.getLogger(__name__)
RESOURCES = 3
"""Watched resources: TaskQueues, Deployments, pods."""
LOOK_SECONDS = 0.2
START_SECONDS = 15.0
"""After which every watcher must be there."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
STOP_SECONDS = 20.0
"""That kopf may take to stop, and once more when it is cancelled."""

Kopf = Callable[[Collection[str], asyncio.Event], Awaitable[None]]
"""Runs kopf in these namespaces (none: all) until a signal, or until the event is set."""


class Supervisor:
    """Belongs to one event loop. `allowed()`: the namespaces that may be watched now, None if none may; empty means all.

    Calls `ready` once every watch has begun, and `looked` after each look at them.
    """

    def __init__(
        self,
        kopf: Kopf,
        witness: Witness,
        allowed: Callable[[], Collection[str] | None],
        ready: Callable[[], None],
        looked: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kopf = kopf
        self._witness = witness
        self._allowed = allowed
        self._ready = ready
        self._looked = looked
        self._monotonic = monotonic
        self._signal = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises RuntimeError if kopf does not stop: two must not run, so the process has to end."""
        pause = FIRST_PAUSE
        while not self._signal.is_set():
            self._begin()
            self._looked()
            began = self._monotonic()
            fault = await self._watch()
            if self._signal.is_set() or not fault:
                return
            metrics.WATCH_RESTARTS.inc()
            pause = FIRST_PAUSE if self._monotonic() - began > 2 * LONGEST_PAUSE else min(LONGEST_PAUSE, 2 * pause)
            log.warning("restarting all watches in %gs: %s", pause, fault)
            await self._sleep(pause)

    def _begin(self) -> None:
        self._stop = asyncio.Event()
        self._witness.begin(self._monotonic())
        self._take_signals()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        self._signal.set()
        self._stop.set()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        except TimeoutError:
            return

    async def _watch(self) -> str:
        """One life of kopf. Returns what is wrong with it, nothing if a signal ended it."""
        namespaces = self._allowed()
        if namespaces is None:
            return "no namespace may be listed"
        running = asyncio.ensure_future(self._kopf(namespaces, self._stop))
        try:
            fault = await self._fault(running, namespaces)
        except BaseException:
            running.cancel()
            raise
        self._stop.set()
        if self._signal.is_set():  # kopf takes seconds to end, and at the end of the process nothing waits for it
            return ""
        await self._end(running)
        if running.cancelled() or (error := running.exception()) is None:
            return fault
        return f"kopf ended: {type(error).__name__}: {error}"

    async def _end(self, running: "asyncio.Future[None]") -> None:
        if not (await asyncio.wait([running], timeout=STOP_SECONDS))[1]:
            return
        running.cancel()
        if (await asyncio.wait([running], timeout=STOP_SECONDS))[1]:
            raise RuntimeError(f"kopf has not stopped within {2 * STOP_SECONDS:g}s")

    async def _fault(self, running: "asyncio.Future[None]", namespaces: Collection[str]) -> str:
        began, wanted = self._monotonic(), RESOURCES * max(1, len(namespaces))
        while not (running.done() or self._signal.is_set()):
            await asyncio.wait([running], timeout=LOOK_SECONDS)
            self._looked()
            self._take_signals()  # kopf takes them over when it begins
            now, alive = self._monotonic(), watchers()
            if (ref := self._witness.deaf(now)) is not None:
                return f"no watch has told of the last change of TaskQueue {ref}"
            if self._allowed() != namespaces:
                return "the namespaces that may be listed have changed"
            if alive >= wanted and self._witness.heard_all:
                self._ready()
            elif alive < wanted and now - began > START_SECONDS:
                return f"{alive} of {wanted} watches are alive"
        return ""


def watchers() -> int:
    """kopf's watchers that are alive, by the names of their tasks."""
    return sum(task.get_name().startswith("watcher for ") for task in asyncio.all_tasks() if not task.done())
