"""Stoker, through `stoker worker` and the application's own enqueue calls."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from stoker import Stoker
from stoker.__main__ import main
from stoker_bench import workload
from stoker_bench.peers import Settings
from stoker_bench.peers.gathering import together

QUEUE = workload.QUEUE
NOOP_CONCURRENCY = 200

app = Stoker("bench", redis=workload.URL)
tasks = {function.__name__: app.task(queue=QUEUE)(function) for function in (workload.noop, workload.nap, workload.stamp)}


class _Producer:
    async def one(self, task: str, number: int, text: str) -> None:
        await tasks[task].enqueue(number, text)

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        call = tasks[task].options()
        await app.enqueue_many([call.prepare(number, text) for number in numbers])

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        await together(self, task, numbers, text)

    async def waiting(self) -> int:
        inspector = app.client.inspector
        [stats] = await inspector.totals([await inspector.partitions.names(QUEUE)])
        return stats.ready


class _Stoker:
    packages = ("stoker", "hiredis", "uvloop", "msgspec")
    settings = Settings(
        delivery="leases of 30 s, fenced settles (default)",
        results="kept for 1 h, the newest 100,000 (default)",
        worker=f"stoker worker --concurrency {NOOP_CONCURRENCY}, one process, uvloop, hiredis; probes, metrics and logs on",
        bulk="app.enqueue_many",
    )

    def work(self) -> None:
        concurrency = str(workload.CONCURRENCY or NOOP_CONCURRENCY)
        flags = ["--queue", QUEUE, "--concurrency", concurrency, "--port", "0"]
        if workload.PARTITIONS > 1:
            flags += ["--partitions", str(workload.PARTITIONS)]
        sys.argv = ["stoker", "worker", f"{__name__}:app", *flags]
        main()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[_Producer]:
        if workload.PARTITIONS > 1:  # as a worker would say it
            await app.client.inspector.partitions.register(QUEUE, workload.PARTITIONS)
        yield _Producer()
        await app.close()


PEER = _Stoker()
