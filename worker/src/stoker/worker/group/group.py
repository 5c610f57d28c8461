"""Worker group: several worker processes behind one status page, restarted when they exit or hang, and drained together.

Each is an ordinary worker that inherits a listening socket for its page, so that its port is known here. This process loads no
application: no task can harm it.
"""

import asyncio
import http.client
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from stoker.errors import Invalid
from stoker.rules.units import format_duration
from stoker.worker.group.group_metrics import SummedMetrics
from stoker.worker.group.reload import changes
from stoker.worker.system.health_server import LOADING, WORKER_HEADER, HealthServer
from stoker.worker.system.managed_process import KeepPolicy, ManagedProcess, ProcessKeeper

PROBE_INTERVAL = 1.0
START_INTERVAL = 0.05
SCRAPE_INTERVAL = 5.0
ANSWER_TIMEOUT = 5.0
STUCK_PROBES = 3
"""A process is killed after this many failed liveness probes in a row: before Kubernetes would restart the whole container."""
RELOAD_TIMEOUT = 5.0
"""Seconds that running tasks have when the source changes: a developer is waiting for the new code."""
KILL_GRACE = 15.0
"""Seconds beyond the drain timeout until a process that does not exit is killed."""
_log = logging.getLogger("stoker.worker")


async def run_group(count: int, drain_timeout: float, host: str, port: int, *, reload: bool, secret_url: str = "") -> None:
    """Run `count` workers with this process' command line until drained. With `reload`, restart them when a source file changes.

    Raises Invalid when one exits before any has worked; with `reload`, it waits for a change instead.
    """
    registry = CollectorRegistry()
    group = WorkerGroup(count, drain_timeout, registry, changes(Path.cwd()) if reload else None, secret_url)
    with HealthServer(host, port, group) as health, _signals(group):
        _log.info("group started", extra={"processes": count, "port": health.port})
        await group.run()
    _log.info("group stopped")


class WorkerGroup:
    """The member processes and their common status page, which is `Served` from threads."""

    name = "group"

    def __init__(
        self,
        count: int,
        drain_timeout: float,
        registry: CollectorRegistry,
        changes: AsyncIterator[Sequence[str]] | None = None,
        secret_url: str = "",
    ) -> None:
        self.secret_url = secret_url
        self.drain_timeout = drain_timeout
        self.reloads = changes is not None
        self._changes = changes
        self.draining = asyncio.Event()
        self.has_worked = False
        self.failure: Invalid | None = None
        self.threads = ThreadPoolExecutor(2 * count + 1, thread_name_prefix="stoker-group")
        self._scraping = threading.Lock()
        self._registry = registry
        self._sums = SummedMetrics(count)
        registry.register(self._sums)
        self._running = Gauge("stoker_worker_processes", "Worker processes that take tasks.", registry=registry)
        self._members = [GroupMember(seat, self) for seat in range(count)]

    async def run(self) -> None:
        """Keep all running until `drain`, and until they have exited."""
        beside = [asyncio.create_task(self._keep_scraping()), asyncio.create_task(self._reload())]
        try:
            await asyncio.gather(*(member.keep() for member in self._members))
        finally:
            for task in beside:
                task.cancel()
            for member in self._members:
                member.close()
            self.threads.shutdown(wait=False, cancel_futures=True)
        if self.failure:
            raise self.failure

    def drain(self) -> None:
        """Drain all: they finish their tasks and exit."""
        self.draining.set()
        for member in self._members:
            member.drain()

    def abort(self) -> None:
        """Have all requeue their tasks and exit at once."""
        for member in self._members:
            member.abort()

    def started(self) -> str | None:
        """Its own page is there at once: it watches the starts of its members itself."""
        return None

    def live(self) -> str | None:
        """None while no member hangs."""
        return _joined(member.stuck for member in self._members)

    def ready(self) -> str | None:
        """None while one takes tasks, and no other is in trouble. One that is being replaced is not in trouble."""
        if self.draining.is_set():
            return "draining"
        troubles = [member.trouble for member in self._members]
        wrong = _joined(trouble for trouble in troubles if trouble != "recycling")
        return wrong if wrong or None in troubles else "recycling"

    def metrics(self) -> bytes:
        """The pages of all, summed."""
        self._scrape()
        return generate_latest(self._registry)

    def quiet(self, timeout: float) -> str | None:
        """Have all go quiet, at the same time, and wait for what runs. The processes stay."""
        path = f"/drain?timeout={format_duration(timeout)}"
        return _joined(self.threads.map(lambda member: member.ask(path, timeout + ANSWER_TIMEOUT, "POST"), self._members))

    async def _reload(self) -> None:
        if self._changes is None:
            return
        async for files in self._changes:
            _log.info("source files changed: restarting", extra={"files": files})
            for member in self._members:
                member.restart()

    async def scrape(self) -> None:
        """Read the metrics of all."""
        await asyncio.get_running_loop().run_in_executor(self.threads, self._scrape)

    async def _keep_scraping(self) -> None:
        # Also between requests: what a process has counted since is lost when it dies.
        while True:
            await asyncio.sleep(SCRAPE_INTERVAL)
            await self.scrape()

    def _scrape(self) -> None:
        with self._scraping:
            self._running.set(sum(member.trouble is None for member in self._members))
            for member in self._members:
                if not member.present:
                    self._sums.remove(member.seat)
                    continue
                with suppress(OSError):
                    _, process, page = member.get("/metrics", ANSWER_TIMEOUT)
                    self._sums.update(member.seat, process, page)


class GroupMember:
    """One seat of the group, and the process that has it now."""

    def __init__(self, seat: int, group: WorkerGroup) -> None:
        self.seat = seat
        self.stuck: str | None = None
        self.trouble: str | None = "starting"
        self._group = group
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._process: ManagedProcess | None = None
        self._keeper = ProcessKeeper(self._start, KeepPolicy(kill_after=group.drain_timeout + KILL_GRACE))
        self._restart = asyncio.Event()  # set by `restart` and `drain`

    @property
    def present(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.running

    async def keep(self) -> None:
        """Start a process, and another whenever one ends, until drained. When none has ever worked, the group gives up."""
        while not self._group.draining.is_set():
            self._restart.clear()
            self._process = process = await self._keeper.start()
            watching = asyncio.create_task(self._watch(process))
            code = await process.ended()
            watching.cancel()
            self.trouble, self.stuck = "starting", None
            pause = self._keeper.ended(process, time.monotonic())
            if self._group.draining.is_set():
                return
            if process.draining:
                continue
            if code and self._group.reloads:
                _log.error("worker process ended, and waits for a change of its source", extra={"seat": self.seat, "code": code})
                await self._restart.wait()
                continue
            if code and not self._group.has_worked:
                self._group.failure = Invalid(f"a worker process ended with exit code {code} before any could work")
                self._group.drain()
                return
            _log.error("worker process ended, another takes its place", extra={"seat": self.seat, "code": code, "again_in": pause})
            with suppress(TimeoutError):
                await asyncio.wait_for(self._group.draining.wait(), pause)

    def restart(self) -> None:
        """Replace the process: running tasks may end within RELOAD_TIMEOUT, or are requeued."""
        self._restart.set()
        if self._process:
            self._process.drain(abort_after=RELOAD_TIMEOUT)

    def drain(self) -> None:
        """Let running tasks end, then exit."""
        self._restart.set()
        self._keeper.drain()

    def abort(self) -> None:
        """Requeue running tasks and exit."""
        self._keeper.abort()

    def close(self) -> None:
        """Close the listening socket."""
        self._listener.close()

    def ask(self, path: str, timeout: float, method: str = "GET") -> str | None:
        """None for a 200 of this process, else its complaint."""
        try:
            status, _, said = self.get(path, timeout, method)
        except OSError as error:
            return f"no answer: {error}"
        return None if status == http.client.OK else said.strip()

    def get(self, path: str, timeout: float, method: str = "GET") -> tuple[int, str, str]:
        """Status, name of the process, and page. Raises OSError."""
        if not self.present:
            raise ConnectionError("no process")
        host, port = self._listener.getsockname()
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.getheader(WORKER_HEADER) or "", answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP: {error!r}") from error
        finally:
            connection.close()

    async def _watch(self, process: ManagedProcess) -> None:
        up, failed = False, 0
        while True:
            # Starting until its application is loaded, for as long as that takes.
            while not up:
                up = await self._asked("/startz?wait") is None
                self._group.has_worked = self._group.has_worked or up
                if not up:
                    await asyncio.sleep(START_INTERVAL)
            wrong = await self._asked("/livez")
            failed = failed + 1 if wrong else 0
            self.stuck = f"process {self.seat}: {wrong}" if failed else None
            if failed >= STUCK_PROBES:
                _log.critical("worker process hangs: killing it", extra={"seat": self.seat, "pid": process.pid, "error": wrong})
                process.kill()
                return
            trouble = await self._asked("/readyz")
            if trouble == LOADING:  # up before, so that it has started again in place
                trouble = "recycling"
            self.trouble = trouble and (trouble if trouble == "recycling" else f"process {self.seat}: {trouble}")
            if trouble == "recycling":
                await self._group.scrape()  # it waits for this before it exits
            await asyncio.sleep(PROBE_INTERVAL)

    async def _asked(self, path: str) -> str | None:
        return await asyncio.get_running_loop().run_in_executor(self._group.threads, self.ask, path, ANSWER_TIMEOUT)

    async def _start(self) -> ManagedProcess:
        descriptor = self._listener.fileno()
        own = ["--processes", "1", "--no-reload", "--listen-fd", str(descriptor)]
        command = [sys.executable, "-m", "stoker", *sys.argv[1:], *own]
        return await ManagedProcess.start(
            f"process {self.seat}", command, descriptors=[descriptor], orphaned=signal.SIGHUP, secret_url=self._group.secret_url
        )


def _joined(complaints: Iterable[str | None]) -> str | None:
    return "; ".join(complaint for complaint in complaints if complaint) or None


@contextmanager
def _signals(group: WorkerGroup) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def drain_or_abort() -> None:
        if group.draining.is_set():
            group.abort()
        else:
            group.drain()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain_or_abort)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
