"""Several worker processes behind one page: started, watched, replaced when they die or hang, and told to leave together.

Each is an ordinary worker with a socket that we listen on for its page, so that nobody has to be told its port. This process
loads no application: nothing that a task does can reach it.
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
from stoker.rules.retry import Jitter, Retry, backoff
from stoker.rules.units import format_duration
from stoker.worker.group.aggregate import Sums
from stoker.worker.group.reload import changes
from stoker.worker.system.health import WORKER_HEADER, HealthServer
from stoker.worker.system.managed_process import Program

LOOK_EVERY = 1.0
COUNT_EVERY = 5.0
ANSWERS_WITHIN = 5.0
STUCK_LOOKS = 3
"""So many looks in a row without a good answer: the process is replaced, before anyone outside would end all of them."""
YOUNG = 10.0
"""A process that ends by itself within this many seconds could not work."""
CRASH_BACKOFF = Retry(initial_delay=1.0, multiplier=2, max_delay=30.0, jitter=Jitter.NONE)
RELOAD_PATIENCE = 5.0
"""Seconds that running tasks have when the source changes: somebody is waiting to see what it does."""
GRACE = 15.0
"""Seconds beyond the drain timeout, until a process that does not leave is killed."""
_log = logging.getLogger("stoker.worker")


async def run_group(count: int, patience: float, host: str, port: int, *, reload: bool) -> None:
    """Run so many workers like this one until told to leave. With `reload`, start them anew when a source file changes.

    Raises Invalid when none of them could ever work; with `reload`, they wait for a change instead.
    """
    registry = CollectorRegistry()
    group = Group(count, patience, registry, changes(Path.cwd()) if reload else None)
    with HealthServer(host, port, group) as health, _signals(group):
        _log.info("group started", extra={"processes": count, "port": health.port})
        await group.run()
    _log.info("group stopped")


class Group:
    """The processes, and what is said of them together."""

    name = "group"

    def __init__(
        self, count: int, patience: float, registry: CollectorRegistry, changes: AsyncIterator[Sequence[str]] | None = None
    ) -> None:
        self.patience = patience
        self.reloads = changes is not None
        self._changes = changes
        self.leaving = asyncio.Event()
        self.has_worked = False
        self.failure: Invalid | None = None
        self.threads = ThreadPoolExecutor(2 * count + 1, thread_name_prefix="stoker-group")
        self._gathering = threading.Lock()
        self._registry = registry
        self._sums = Sums(count)
        registry.register(self._sums)
        self._running = Gauge("stoker_worker_processes", "Worker processes that take tasks.", registry=registry)
        self._members = [Member(seat, self) for seat in range(count)]

    async def run(self) -> None:
        """Keep all running until told to leave, and until they have left."""
        beside = [asyncio.create_task(self._keep_counting()), asyncio.create_task(self._reload())]
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

    def leave(self) -> None:
        """Have all drain; a second time: have them give their tasks back at once."""
        self.leaving.set()
        for member in self._members:
            member.leave()

    def live(self) -> str | None:
        """None of them hangs."""
        return _joined(member.stuck for member in self._members)

    def ready(self) -> str | None:
        """At least one takes tasks, and no other is in trouble; one that is being replaced is not in trouble."""
        if self.leaving.is_set():
            return "draining"
        troubles = [member.trouble for member in self._members]
        wrong = _joined(trouble for trouble in troubles if trouble != "recycling")
        return wrong if wrong or None in troubles else "recycling"

    def metrics(self) -> bytes:
        """All pages as one."""
        self._gather()
        return generate_latest(self._registry)

    def drain(self, patience: float) -> str | None:
        """Have all rest, side by side."""
        path = f"/drain?timeout={format_duration(patience)}"
        return _joined(self.threads.map(lambda member: member.ask(path, patience + ANSWERS_WITHIN), self._members))

    async def _reload(self) -> None:
        if self._changes is None:
            return
        async for files in self._changes:
            _log.info("source files have changed: starting anew", extra={"files": files})
            for member in self._members:
                member.renew()

    async def count(self) -> None:
        """Take in what all have counted."""
        await asyncio.get_running_loop().run_in_executor(self.threads, self._gather)

    async def _keep_counting(self) -> None:
        # Also while nobody looks: what a process counted last is gone with it.
        while True:
            await asyncio.sleep(COUNT_EVERY)
            await self.count()

    def _gather(self) -> None:
        with self._gathering:
            self._running.set(sum(member.trouble is None for member in self._members))
            for member in self._members:
                if not member.present:
                    self._sums.lose(member.seat)
                    continue
                with suppress(OSError):
                    _, process, page = member.get("/metrics", ANSWERS_WITHIN)
                    self._sums.hear(member.seat, process, page)


class Member:
    """One place in the group, and the process that has it now."""

    def __init__(self, seat: int, group: Group) -> None:
        self.seat = seat
        self.stuck: str | None = None
        self.trouble: str | None = "starting"
        self._group = group
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._program: Program | None = None
        self._again = asyncio.Event()

    @property
    def present(self) -> bool:
        """Whether there is a process."""
        return self._program is not None and self._program.running

    async def keep(self) -> None:
        """Start a process, and another whenever one ends, until told to leave. When none has ever worked, all give up."""
        crashes = 0
        while not self._group.leaving.is_set():
            self._again.clear()
            self._program = program = await Program.start(
                f"process {self.seat}", self._command(), descriptors=[self._listener.fileno()], orphaned=signal.SIGHUP
            )
            watching = asyncio.create_task(self._watch(program))
            code = await program.ended()
            watching.cancel()
            self.trouble, self.stuck = "starting", None
            if self._group.leaving.is_set():
                return
            if program.asked_to_leave:
                continue
            if code and self._group.reloads:
                _log.error("worker process ended, and waits for a change of its source", extra={"seat": self.seat, "code": code})
                await self._again.wait()
                continue
            if code and not self._group.has_worked:
                self._group.failure = Invalid(f"a worker process ended with exit code {code} before any could work")
                self._group.leave()
                return
            young = time.monotonic() - program.started < YOUNG
            crashes = crashes + 1 if young else 1
            pause = backoff(CRASH_BACKOFF, crashes, lambda: 1.0) if young else 0.0
            _log.error("worker process ended, another takes its place", extra={"seat": self.seat, "code": code, "again_in": pause})
            with suppress(TimeoutError):
                await asyncio.wait_for(self._group.leaving.wait(), pause)

    def renew(self) -> None:
        """Let another take its place: what runs may end within a moment, or is given back."""
        self._again.set()
        if self._program:
            self._program.ask_to_leave()
            asyncio.get_running_loop().call_later(RELOAD_PATIENCE, self._program.ask_to_leave)

    def leave(self) -> None:
        """Pass the wish on."""
        self._again.set()
        if self._program:
            self._program.ask_to_leave()
            asyncio.get_running_loop().call_later(self._group.patience + GRACE, self._program.kill)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def ask(self, path: str, patience: float) -> str | None:
        """None for a good answer of this process, else what it says."""
        try:
            status, _, said = self.get(path, patience)
        except OSError as error:
            return f"no answer: {error}"
        return None if status == http.client.OK else said.strip()

    def get(self, path: str, patience: float) -> tuple[int, str, str]:
        """Status, the process' name, and its page. Raises OSError."""
        if not self.present:
            raise ConnectionError("no process")
        host, port = self._listener.getsockname()
        connection = http.client.HTTPConnection(host, port, timeout=patience)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.getheader(WORKER_HEADER) or "", answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP: {error!r}") from error
        finally:
            connection.close()

    async def _watch(self, program: Program) -> None:
        up, looks = False, 0
        while True:
            wrong = await self._asked("/livez")
            # Until its first answer it is starting, for as long as its application takes to import.
            up = up or wrong is None
            looks = looks + 1 if up and wrong else 0
            self.stuck = f"process {self.seat}: {wrong}" if looks else None
            if looks >= STUCK_LOOKS:
                _log.critical("worker process hangs, it is killed", extra={"seat": self.seat, "pid": program.pid, "error": wrong})
                program.kill()
                return
            trouble = await self._asked("/readyz") if up else "starting"
            self.trouble = trouble and (trouble if trouble == "recycling" else f"process {self.seat}: {trouble}")
            self._group.has_worked = self._group.has_worked or up
            if trouble == "recycling":
                await self._group.count()  # it waits for this, before its counters go
            await asyncio.sleep(LOOK_EVERY)

    async def _asked(self, path: str) -> str | None:
        return await asyncio.get_running_loop().run_in_executor(self._group.threads, self.ask, path, ANSWERS_WITHIN)

    def _command(self) -> Sequence[str]:
        own = ["--processes", "1", "--no-reload", "--listen-fd", str(self._listener.fileno())]
        return [sys.executable, "-m", "stoker", *sys.argv[1:], *own]


def _joined(complaints: Iterable[str | None]) -> str | None:
    return "; ".join(complaint for complaint in complaints if complaint) or None


@contextmanager
def _signals(group: Group) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, group.leave)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
