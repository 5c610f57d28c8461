"""streaQ."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from streaq import Worker

from stoker_bench import workload
from stoker_bench.peers import Settings
from stoker_bench.peers.gathering import together

NOOP_CONCURRENCY = 100

worker: Worker[None] = Worker(
    redis_url=workload.URL,
    concurrency=workload.CONCURRENCY or NOOP_CONCURRENCY,
    anyio_kwargs={"use_uvloop": True},
)
tasks = {
    function.__name__: worker.task(ttl=3600, silent=True)(function) for function in (workload.noop, workload.nap, workload.stamp)
}


class _Producer:
    async def one(self, task: str, number: int, text: str) -> None:
        await tasks[task].enqueue(number, text)

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        await worker.enqueue_many([tasks[task].enqueue(number, text) for number in numbers])

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        await together(self, task, numbers, text)

    async def waiting(self) -> int:
        return int(await worker.queue_size())


class _Streaq:
    packages = ("streaq", "coredis", "uvloop")
    settings = Settings(
        delivery="streams, idle tasks claimed after 60 s, 3 tries (default)",
        results="kept for 1 h",
        worker=f"streaq run, concurrency {NOOP_CONCURRENCY} (default 16), silent tasks, uvloop",
        bulk="worker.enqueue_many",
    )

    def work(self) -> None:
        worker.run_sync()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[_Producer]:
        async with worker:
            yield _Producer()


PEER = _Streaq()
