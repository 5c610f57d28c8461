"""Managed processes: started, watched, restarted with a backoff, and stopped. Their life is bound to ours.

`ManagedProcess` is one process, `ProcessKeeper` keeps a number of one kind running. A worker group keeps one worker per seat,
`stoker up` keeps as many workers as the autoscaler wants.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from stoker.rules.retry import Jitter, Retry, backoff
from stoker.worker.system.secrecy import SOCKET, URL, Handover

LOG_TAIL = 2000
"""Characters of a log that error messages show."""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # opened early: between fork and exec little is safe


class ManagedProcess:
    """A started process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path | None, log_from: int = 0) -> None:
        self.name = name
        self.started = time.monotonic()
        self.draining = False
        self._process = process
        self._log = log
        self._giving: asyncio.Task[None] | None = None  # the loop holds only a weak reference
        self._log_from = log_from  # in bytes: what is before it was written by earlier processes

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        descriptors: Sequence[int] = (),
        orphaned: signal.Signals = signal.SIGTERM,
        secret_url: str = "",
    ) -> "ManagedProcess":
        """Start it in a new session, so that Ctrl-C reaches only us and we decide which process stops when.

        Its output goes to `log`, or where ours goes; it inherits `descriptors`. When we end, by whatever cause, the kernel sends
        it `orphaned`. A `secret_url` is the Redis URL, handed over so that other processes cannot read it (see `secrecy`).
        """
        variables = {**os.environ, **(environment or {})}
        handover = Handover(secret_url) if secret_url else None
        if handover:
            variables.pop(URL, None)
            variables[SOCKET] = str(handover.descriptor)
            descriptors = [*descriptors, handover.descriptor]
        with _opened(log) as sink:
            log_from = sink.tell() if sink else 0
            process = await asyncio.create_subprocess_exec(
                *command,
                env=variables,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                pass_fds=descriptors,
                preexec_fn=partial(_prepare, orphaned),
            )
        started = cls(name, process, log, log_from)
        started._giving = handover.give() if handover else None
        return started

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that killed it."""
        return self._process.returncode

    def drain(self, *, abort_after: float | None = None, kill_after: float | None = None) -> None:
        """SIGTERM, if not yet sent: finish the work at hand, then exit. Optionally abort or kill it some seconds later."""
        if not self.draining:
            self.draining = True
            self._terminate()
        loop = asyncio.get_running_loop()
        if abort_after is not None:
            loop.call_later(abort_after, self.abort)
        if kill_after is not None:
            loop.call_later(kill_after, self.kill)

    def abort(self) -> None:
        """SIGTERM, a second one to a process that drains: give back the work at hand, and exit at once."""
        self.draining = True
        self._terminate()

    def kill(self) -> None:
        """SIGKILL."""
        if self.running:
            self._process.kill()

    async def stop(self, timeout: float) -> None:
        """Drain it, and kill it after `timeout` seconds. Returns when it has ended."""
        self.drain()
        try:
            async with asyncio.timeout(timeout):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    async def ended(self) -> int:
        """Wait for its end. Returns the exit code."""
        return await self._process.wait()

    def log_tail(self) -> str:
        """The end of its log; empty when it writes into ours."""
        if self._log is None:
            return ""
        try:
            with self._log.open("rb") as log:
                log.seek(self._log_from)
                return log.read().decode(errors="replace")[-LOG_TAIL:].strip()
        except OSError:
            return ""

    def _terminate(self) -> None:
        if self.running:
            self._process.terminate()


class KeepPolicy(NamedTuple):
    """How processes are restarted and stopped."""

    kill_after: float
    """Seconds from a drain to SIGKILL."""
    crash_within: float = 10.0
    """A process that exits by itself within this many seconds has crashed."""
    backoff: Retry = Retry(initial_delay=1.0, multiplier=2, max_delay=30.0, jitter=Jitter.NONE)
    """Pauses after crashes in a row."""


class ProcessKeeper:
    """Keeps processes of one kind running. `start` starts one; times are `time.monotonic()`."""

    def __init__(self, start: Callable[[], Awaitable[ManagedProcess]], policy: KeepPolicy) -> None:
        self.crashes = 0  # in a row
        self.crashed: ManagedProcess | None = None  # the last of them
        self._start = start
        self._policy = policy
        self._processes: list[ManagedProcess] = []
        self._not_before = 0.0

    @property
    def working(self) -> list[ManagedProcess]:
        """Running ones that do not drain, oldest first."""
        return [each for each in self._processes if each.running and not each.draining]

    @property
    def replaced(self) -> bool:
        """Whether one that was started after the last crash is running."""
        return any(each.started >= self._not_before for each in self.working)

    @property
    def draining(self) -> int:
        """How many still finish their last work."""
        return sum(each.running and each.draining for each in self._processes)

    async def start(self) -> ManagedProcess:
        """Start one."""
        process = await self._start()
        self._processes.append(process)
        return process

    def ended(self, process: ManagedProcess, now: float) -> float:
        """Forget one that has ended. Returns the seconds to wait before its replacement: more than 0 after a crash."""
        self._processes.remove(process)
        if process.draining:
            return 0.0
        if now - process.started >= self._policy.crash_within:
            self._reset()
            return 0.0
        self.crashes += 1
        self.crashed = process
        pause = backoff(self._policy.backoff, self.crashes, lambda: 1.0)
        self._not_before = now + pause
        return pause

    async def scale(self, wanted: int, now: float) -> None:
        """Replace those that have ended, and bring their number to `wanted`: the newest drain first."""
        for process in [each for each in self._processes if not each.running]:
            self.ended(process, now)
        if any(now - each.started >= self._policy.crash_within for each in self._processes):
            self._reset()
        working = self.working
        for process in working[wanted:]:
            process.drain()
        if now >= self._not_before:
            for _ in range(wanted - len(working)):
                await self.start()

    def drain(self) -> None:
        """Drain all, and kill those that take too long."""
        for process in self._processes:
            process.drain(kill_after=self._policy.kill_after)

    def abort(self) -> None:
        """Have those that drain give back their work at once."""
        for process in self._processes:
            if process.draining:
                process.abort()

    async def stop(self) -> None:
        """Drain all, and wait until they have ended or were killed."""
        self.drain()
        for process in self._processes:
            await process.ended()

    def _reset(self) -> None:
        self.crashes, self.crashed = 0, None


def signal_with_parent(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends, even when that is killed. Linux only.

    The signal comes once for every thread of the parent.
    """
    if _libc:
        _libc.prctl(_PR_SET_PDEATHSIG, number)


def _prepare(orphaned: signal.Signals) -> None:
    signal.signal(orphaned, signal.SIG_DFL)  # nohup has it ignored
    signal_with_parent(orphaned)


@contextmanager
def _opened(log: Path | None) -> Iterator[IO[bytes] | None]:
    if log is None:
        yield None
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        yield sink
