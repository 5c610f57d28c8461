"""SAQ on Redis."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from saq import Queue
from saq.runner import run

from stoker_bench import workload
from stoker_bench.peers import Settings
from stoker_bench.peers.gathering import abreast

NOOP_CONCURRENCY = 32
RETRIES = 3

queue = Queue.from_url(workload.URL)


def _with_context(function: Callable[..., Coroutine[Any, Any, int]]) -> tuple[str, Callable[..., Coroutine[Any, Any, int]]]:
    async def run_it(_context: Any, *, number: int, text: str) -> int:
        return await function(number, text)

    return function.__name__, run_it


settings = {
    "queue": queue,
    "functions": [_with_context(function) for function in (workload.noop, workload.nap, workload.stamp)],
    "concurrency": workload.CONCURRENCY or NOOP_CONCURRENCY,
}


class _Producer:
    async def one(self, task: str, number: int, text: str) -> None:
        await queue.enqueue(task, number=number, text=text, retries=RETRIES)

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        await abreast(self, task, numbers, text)

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        await abreast(self, task, numbers, text)

    async def waiting(self) -> int:
        return int(await queue.count("queued"))


class _Saq:
    packages = ("saq", "redis", "hiredis", "uvloop")
    settings = Settings(
        delivery=f"swept back when stuck (default), retries={RETRIES} so that a swept task runs again",
        results="in the job, 10 min (default)",
        worker=f"saq settings, concurrency {NOOP_CONCURRENCY} (default 10; 100 for naps), uvloop, hiredis",
        bulk="has none: single enqueues, 32 abreast",
    )

    def work(self) -> None:
        uvloop.install()
        run(f"{__name__}.settings")

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[_Producer]:
        await queue.connect()
        yield _Producer()
        await queue.disconnect()


PEER = _Saq()
