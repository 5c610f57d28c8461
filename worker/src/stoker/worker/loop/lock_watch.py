"""Lock watch: names the task that holds Python's interpreter lock (GIL) for long.

Meanwhile no thread of this process runs Python: no heartbeat, no probe, no other task. `faulthandler` waits and writes the stacks
in C, without the lock; they are read and logged once the lock is free again.
"""

import faulthandler
import inspect
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO, cast

from msgspec import Struct

from stoker.task.declaration import Declaration

HELD_AFTER = 5.0
"""Seconds without the lock until it is logged; less for a lease that would end before."""
LEASES_PER_HOLD = 3
TICKS_PER_HOLD = 5
"""Ticks in that time: each takes the lock, and so postpones the dump."""
SHOWN_FRAMES = 5
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.+)$', re.MULTILINE)
_log = logging.getLogger("stoker.worker")


class Frame(Struct, frozen=True):
    """One line of a stack, innermost first."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


class LockWatch(threading.Thread):
    """Takes the lock several times in `held_after` seconds, from `start` to `stop`, and logs when it could not."""

    def __init__(self, declarations: Iterable[Declaration], lease: float) -> None:
        super().__init__(name="stoker-lock-watch", daemon=True)
        self.held_after = min(HELD_AFTER, lease / LEASES_PER_HOLD)
        self._tasks = task_functions(declarations)
        self._ended = threading.Event()

    def run(self) -> None:
        """Watch until `stop`."""
        tick = self.held_after / TICKS_PER_HOLD
        with suppress(OSError), _scratch_file() as dump:  # a task has closed all descriptors: the worker ends of that
            while not self._ended.is_set():
                began = time.monotonic()
                faulthandler.dump_traceback_later(self.held_after, file=dump.fileno())
                self._ended.wait(tick)
                faulthandler.cancel_dump_traceback_later()
                if dump.seek(0, os.SEEK_END):
                    dump.seek(0)
                    self._report(time.monotonic() - began - tick, dump.read().decode(errors="replace"))
                    dump.seek(0)
                    dump.truncate()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended.set()
        if self.is_alive():
            self.join()

    def _report(self, seconds: float, text: str) -> None:
        found = list(suspects(text, self._tasks))
        shown = [stack[:SHOWN_FRAMES] for _, stack in found] or [stack[:1] for stack in stacks(text)]
        _log.warning(
            "the interpreter lock was held: no heartbeat, probe or other task of this process ran",
            extra={
                "seconds": round(seconds, 1),
                "tasks": sorted({name for name, _ in found}),
                "at": [str(frame) for stack in shown for frame in stack],
            },
        )


def _scratch_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stoker-stacks"), "r+b", buffering=0)
    return cast(BinaryIO, tempfile.TemporaryFile(buffering=0))


def task_functions(declarations: Iterable[Declaration]) -> dict[tuple[str, str], str]:
    """Names of tasks, by file and name of their functions."""
    codes = [(each.name, getattr(inspect.unwrap(each.function), "__code__", None)) for each in declarations]
    return {(code.co_filename, code.co_name): name for name, code in codes if code is not None}


def stacks(text: str) -> list[list[Frame]]:
    """The stack of each thread in a dump of `faulthandler`."""
    parts = _THREAD.split(text)[1:]
    return [[Frame(file, int(line), function) for file, line, function in _FRAME.findall(part)] for part in parts]


def suspects(text: str, tasks: Mapping[tuple[str, str], str]) -> Iterator[tuple[str, Sequence[Frame]]]:
    """The task of each thread that runs one, with its stack. A dump does not mark the thread that holds the lock."""
    for stack in stacks(text):
        for frame in stack:
            if name := tasks.get((frame.file, frame.function)):
                yield name, stack
                break
