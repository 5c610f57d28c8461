"""One measurement's surroundings: a fresh server, a ledger, a peer's worker and producer."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stoker_bench import processes, server
from stoker_bench.ledger import At, Ledger
from stoker_bench.processes import Failed, Producer, Worker

Row = dict[str, Any]
POLL = 0.005
QUIET = 0.3
"""After the last mark, how long a second run of a task may take to show."""


class Plan(NamedTuple):
    """How much to measure. Sizes follow from `seconds`, so that slow peers do not take for ever."""

    rounds: int
    seconds: float
    largest: int
    samples: int
    depths: tuple[int, ...]
    workers: tuple[int, ...]
    limit: float  # seconds after which a peer has failed


QUICK = Plan(rounds=1, seconds=0.3, largest=3_000, samples=20, depths=(1_000, 10_000), workers=(0, 1, 10), limit=30.0)
FULL = Plan(
    rounds=5,
    seconds=5.0,
    largest=200_000,
    samples=200,
    depths=(1_000, 10_000, 100_000, 1_000_000),
    workers=(0, 1, 10, 50, 100, 200),
    limit=180.0,
)


class Bench:
    """A fresh server with a ledger of `size` tasks, for one peer."""

    def __init__(self, peer: str, running: server.Server, folder: Path, size: int) -> None:
        self.peer = peer
        self.server = running
        self.extra: dict[str, str] = {}
        self._folder = folder
        self._path = folder / "ledger"
        self.ledger = Ledger.create(self._path, size, running.process)

    @contextmanager
    def producer(self) -> Iterator[Producer]:
        """The peer's enqueuing side."""
        with processes.producer(self.peer, self.environment(), self._folder) as started:
            yield started

    @contextmanager
    def worker(self, concurrency: int = 0, number: int = 0) -> Iterator[Worker]:
        """The peer's worker, of many the one with this number; a concurrency of 0 is the peer's own choice."""
        folder = self._folder / f"worker-{number}"
        folder.mkdir()
        with processes.worker(self.peer, self.environment(concurrency), folder) as started:
            yield started

    def wait(self, worker: Worker, limit: float) -> None:
        """Until every task has run. Raises Failed after `limit` seconds."""
        deadline = time.monotonic() + limit
        # The mark comes early by as many tasks as ran twice.
        while not self.ledger.head[At.LAST] or self.ledger.missing:
            worker.check()
            if time.monotonic() > deadline:
                break
            time.sleep(POLL)
        if self.ledger.missing:
            raise Failed(f"{self.ledger.missing} of {len(self.ledger.counts)} tasks did not run within {limit:.0f} s")
        time.sleep(QUIET)

    def wait_for(self, worker: Worker, number: int, limit: float) -> None:
        """Until task `number` has run."""
        deadline = time.monotonic() + limit
        while not self.ledger.counts[number]:
            worker.check()
            if time.monotonic() > deadline:
                raise Failed(f"task {number} did not run within {limit:.0f} s")
            time.sleep(POLL)

    def drained(self) -> Row:
        """What the two marks say: seconds, CPU of worker and server, and whether each task ran exactly once."""
        head, size = self.ledger.head, len(self.ledger.counts)
        seconds = (head[At.LAST] - head[At.FIRST]) / 1e9
        return {
            "tasks": size,
            "seconds": seconds,
            "per_second": size / seconds,
            "worker_cpu_us": (head[At.LAST_CPU] - head[At.FIRST_CPU]) / size / 1e3,
            "server_cpu_us": (head[At.LAST_SERVER_CPU] - head[At.FIRST_SERVER_CPU]) / size / 1e3,
            "missing": self.ledger.missing,
            "repeated": self.ledger.repeated,
        }

    def environment(self, concurrency: int = 0) -> dict[str, str]:
        """What tells a process of this run what to use."""
        return {"BENCH_URL": self.server.url, "BENCH_LEDGER": str(self._path), "BENCH_CONCURRENCY": str(concurrency), **self.extra}


@contextmanager
def prepared(peer: str, binary: Path, size: int) -> Iterator[Bench]:
    """Everything fresh, and cleared away afterwards."""
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as name, server.running(binary, Path(name)) as running:
        yield Bench(peer, running, Path(name), size)
