"""A program that we started: its log in a file or in ours, its life bound to ours."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

LAST_WORDS = 2000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # opened early: between fork and exec little is safe


class Program:
    """A started process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path | None) -> None:
        self.name = name
        self.started = time.monotonic()
        self.asked_to_leave = False
        self._process = process
        self._log = log

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        descriptors: Sequence[int] = (),
        orphaned: signal.Signals = signal.SIGTERM,
    ) -> "Program":
        """Start it in a session of its own, so that Ctrl-C reaches only us and we decide who leaves when.

        It writes into `log`, or where we write; it inherits `descriptors`. When we end, however we end, it is sent `orphaned`.
        """
        with _opened(log) as sink:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **(environment or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                pass_fds=descriptors,
                preexec_fn=partial(_prepare, orphaned),
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """How it ended: negative is the signal that killed it."""
        return self._process.returncode

    def ask_to_leave(self) -> None:
        """SIGTERM: end when the work at hand is done; a second time: give it back at once."""
        self.asked_to_leave = True
        if self.running:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL: as if its machine had died."""
        if self.running:
            self._process.kill()

    async def stop(self, patience: float) -> None:
        """Ask it to leave, unless it was asked already, and after `patience` seconds insist."""
        if not self.asked_to_leave:
            self.ask_to_leave()
        try:
            async with asyncio.timeout(patience):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    async def ended(self) -> int:
        """Wait for its end. Returns the exit code."""
        return await self._process.wait()

    def last_words(self) -> str:
        """The end of its log, where it has one of its own."""
        if self._log is None:
            return ""
        try:
            return self._log.read_text(errors="replace")[-LAST_WORDS:].strip()
        except OSError:
            return ""


def _prepare(orphaned: signal.Signals) -> None:
    signal.signal(orphaned, signal.SIG_DFL)  # under nohup we may have been told to ignore it
    leave_with_parent(orphaned)


def leave_with_parent(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends, even when that is killed outright. Linux only.

    It comes once for every thread of the parent.
    """
    if _libc:
        _libc.prctl(_PR_SET_PDEATHSIG, number)


@contextmanager
def _opened(log: Path | None) -> Iterator[IO[bytes] | None]:
    if log is None:
        yield None
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        yield sink
