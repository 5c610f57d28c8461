"""What one worker process says of itself to whoever asks over HTTP. Asked from threads."""

import asyncio
import threading
import time

from prometheus_client import CollectorRegistry, generate_latest

from stoker.worker.loop.partitions import Crew
from stoker.worker.loop.watchdog import Watchdog
from stoker.worker.process.lifespan import Lifespan

LOOK_EVERY = 0.05


class WorkerPage:
    """The page of one worker. `starting` is done when it has all that it waits for before its first task."""

    def __init__(
        self,
        crew: Crew,
        patience: float,
        registry: CollectorRegistry,
        watch: Watchdog,
        lifespan: Lifespan,
        starting: "asyncio.Task[list[str]]",
    ) -> None:
        self.name = crew.name
        self.patience = patience
        self._crew = crew
        self._registry = registry
        self._watch = watch
        self._lifespan = lifespan
        self._starting = starting
        self._loop = asyncio.get_running_loop()
        self._read = threading.Event()

    def live(self) -> str | None:
        """The event loop comes round."""
        return f"the event loop is stuck for {self._watch.silence:.0f} s" if self._watch.stuck else None

    def ready(self) -> str | None:
        """It takes tasks."""
        if self._starting.done():
            return "recycling" if self._crew.recycling else self._crew.trouble
        return "waiting for the application's lifespan" if self._lifespan.begun else "waiting for Redis"

    def metrics(self) -> bytes:
        """All of this process."""
        page = generate_latest(self._registry)
        self._read.set()
        return page

    async def read_once_more(self, patience: float) -> None:
        """Let whoever adds up our metrics have the last ones."""
        self._read.clear()
        await asyncio.to_thread(self._read.wait, patience)

    def drain(self, patience: float) -> str | None:
        """Rest, until SIGTERM comes, and wait here for what runs."""
        self._loop.call_soon_threadsafe(self._crew.rest)
        give_up = time.monotonic() + patience
        while not self._crew.rested:
            if time.monotonic() > give_up:
                return f"{self._crew.busy} tasks still run"
            time.sleep(LOOK_EVERY)
        return None
