"""A child process: its log in a file, its life bound to ours."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LAST_WORDS = 2000
_PR_SET_PDEATHSIG = 1


class Child:
    """A started process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.started = time.monotonic()
        self.asked_to_leave = False
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> "Child":
        """Start it in a session of its own, so that Ctrl-C reaches only us and we decide who leaves when."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=leave_with_parent if sys.platform == "linux" else None,
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
        """The end of its log."""
        try:
            return self._log.read_text(errors="replace")[-LAST_WORDS:].strip()
        except OSError:
            return ""


def leave_with_parent() -> None:
    """In a child, before its program: even when we are killed outright, no worker or server stays behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
