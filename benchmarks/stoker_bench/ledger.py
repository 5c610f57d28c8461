"""The exactly-once check: one shared page of memory that every task marks and the benchmark reads.

A task's mark is one increment of a byte in a mapped file, the same for every peer and far below a microsecond, so that
checking does not decide what is measured. The first and the last mark also take the clocks, so that neither the
worker's start nor the benchmark's polling is in the figures.
"""

import itertools
import mmap
import os
import struct
import time
from enum import IntEnum
from pathlib import Path

FIELDS = 16
HEAD = FIELDS * 8
WORD = 8


class At(IntEnum):
    """Where the header keeps what; all values are 64-bit, times in nanoseconds."""

    SIZE = 0
    SERVER = 1  # the server's process, whose CPU time is read at both marks
    WORKER = 2  # the process that ran the first task
    FIRST = 3
    FIRST_CPU = 4
    FIRST_SERVER_CPU = 5
    LAST = 6
    LAST_CPU = 7
    LAST_SERVER_CPU = 8


class Ledger:
    """What ran how often and, for tasks that stamp, when. Shared by all processes that open the same file."""

    def __init__(self, memory: mmap.mmap) -> None:
        view = memoryview(memory)
        self.head = view[:HEAD].cast("q")
        size = self.head[At.SIZE]
        stamps = HEAD + size + -size % WORD
        self.counts = view[HEAD : HEAD + size]
        self.stamps = view[stamps : stamps + size * WORD].cast("q")
        self._turn = itertools.count()
        self._last = size - 1

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """The ledger in this file."""
        with path.open("r+b") as file:
            return cls(mmap.mmap(file.fileno(), 0))

    @classmethod
    def create(cls, path: Path, size: int, server: int) -> "Ledger":
        """An empty ledger for the tasks 0 .. size - 1."""
        header = struct.pack(f"{FIELDS}q", size, server, *[0] * (FIELDS - 2))
        path.write_bytes(header + bytes(size + -size % WORD + size * WORD))
        return cls.open(path)

    def begin(self) -> None:
        """For tasks that take time: the first one begins."""
        if not self.head[At.FIRST]:
            self._mark(At.FIRST)

    def ran(self, number: int) -> None:
        """Task `number` ran once more. Safe from threads: the turn is taken in one step of C."""
        turn = next(self._turn)
        if not turn:
            self.begin()
        self.counts[number] += 1
        if turn == self._last:
            self._mark(At.LAST)

    def stamp(self, number: int) -> None:
        """Task `number` began now."""
        self.stamps[number] = time.monotonic_ns()
        self.ran(number)

    @property
    def missing(self) -> int:
        """Tasks that have not run."""
        return bytes(self.counts).count(0)

    @property
    def repeated(self) -> int:
        """Tasks that ran more than once."""
        return len(self.counts) - self.missing - bytes(self.counts).count(1)

    def _mark(self, at: At) -> None:
        head = self.head
        head[at] = time.monotonic_ns()
        head[at + 1] = time.process_time_ns()
        head[at + 2] = main_thread_cpu(head[At.SERVER])
        head[At.WORKER] = os.getpid()


def main_thread_cpu(process: int) -> int:
    """Nanoseconds of CPU that a process' main thread has had: where Redis and Valkey run commands."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0])
