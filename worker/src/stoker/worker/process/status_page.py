"""Status page of one worker process: liveness, readiness, metrics and the drain. Called from the HTTP server's threads."""

import asyncio
import threading
import time

from prometheus_client import CollectorRegistry, generate_latest

from stoker.settings import WorkerSettings
from stoker.worker.loop.partition_group import PartitionGroup
from stoker.worker.loop.watchdog import Watchdog
from stoker.worker.process.lifespan import Lifespan
from stoker.worker.system.health_server import LOADING, HealthServer

POLL_INTERVAL = 0.05


class LoadingPage:
    """The page while the application is imported, which may take minutes. A context manager; `work` shows its own page instead.

    Raises Invalid for a port that is taken.
    """

    def __init__(self, name: str, settings: WorkerSettings) -> None:
        self.name = name
        self.drain_timeout = settings.drain_timeout
        self._worker: WorkerPage | None = None
        self._quieted = False
        self._server = HealthServer(settings.host, settings.port, self, inherited=settings.listen_fd)

    def __enter__(self) -> "LoadingPage":
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def close(self) -> None:
        """End this page, or the one that has replaced it."""
        self._server.close()

    def replace(self, page: "WorkerPage") -> None:
        """Show this page instead. A drain that was asked for while the application was loaded holds."""
        self._worker = page
        self._server.show(page)
        if self._quieted:
            page.take_no_more()

    def started(self) -> str | None:
        """Not yet."""
        return LOADING

    def live(self) -> str | None:
        """An import cannot be told from one that hangs: the startup probe decides."""
        return None

    def ready(self) -> str | None:
        """Not yet."""
        return LOADING

    def metrics(self) -> bytes:
        """None yet: their labels have the namespace, which may be the application's."""
        return b""

    def quiet(self, timeout: float) -> str | None:
        """Take no tasks once the application is loaded. Nothing runs yet."""
        self._quieted = True
        return self._worker.quiet(timeout) if self._worker else None


class WorkerPage:
    """The page of one process. `starting` is done when Redis has answered and the lifespan is entered."""

    def __init__(
        self,
        group: PartitionGroup,
        drain_timeout: float,
        registry: CollectorRegistry,
        watchdog: Watchdog,
        lifespan: Lifespan,
        starting: "asyncio.Task[list[list[str]]]",
    ) -> None:
        self.name = group.name
        self.drain_timeout = drain_timeout
        self._group = group
        self._registry = registry
        self._watchdog = watchdog
        self._lifespan = lifespan
        self._starting = starting
        self._loop = asyncio.get_running_loop()
        self._read = threading.Event()

    def started(self) -> str | None:
        """The application is loaded."""
        return None

    def live(self) -> str | None:
        """None while the event loop runs."""
        return f"the event loop has been stuck for {self._watchdog.silence:.0f} s" if self._watchdog.stuck else None

    def ready(self) -> str | None:
        """None while tasks are taken."""
        if self._starting.done():
            return "recycling" if self._group.recycling else self._group.trouble
        return "waiting for the application's lifespan" if self._lifespan.begun else "waiting for Redis"

    def metrics(self) -> bytes:
        """The metrics of this process, in the Prometheus text format."""
        page = generate_latest(self._registry)
        self._read.set()
        return page

    async def read_once_more(self, timeout: float) -> None:
        """Wait until the metrics have been read again, so that the group's sums have the last ones."""
        self._read.clear()
        await asyncio.to_thread(self._read.wait, timeout)

    def take_no_more(self) -> None:
        """Go quiet."""
        self._loop.call_soon_threadsafe(self._group.quiet)

    def quiet(self, timeout: float) -> str | None:
        """Go quiet, and wait for what runs. The process stays until SIGTERM: a container that ended would be started again."""
        self.take_no_more()
        give_up = time.monotonic() + timeout
        while not self._group.drained:
            if time.monotonic() > give_up:
                return f"{self._group.busy} tasks still run"
            time.sleep(POLL_INTERVAL)
        return None
