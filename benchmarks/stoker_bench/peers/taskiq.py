"""taskiq with taskiq-redis' stream broker, the one of its brokers that acknowledges."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from taskiq.__main__ import main
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from stoker_bench import workload
from stoker_bench.peers import Settings
from stoker_bench.peers.gathering import abreast

NOOP_CONCURRENCY = 100
PREFETCH = 100

broker = (
    RedisStreamBroker(workload.URL, xread_count=PREFETCH)
    .with_result_backend(RedisAsyncResultBackend(workload.URL, result_ex_time=3600, serializer=ORJSONSerializer()))
    .with_serializer(ORJSONSerializer())
)
tasks = {function.__name__: broker.task(function) for function in (workload.noop, workload.nap, workload.stamp)}


class _Producer:
    async def one(self, task: str, number: int, text: str) -> None:
        await tasks[task].kiq(number, text)

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        await abreast(self, task, numbers, text)

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        await abreast(self, task, numbers, text)

    async def waiting(self) -> int:
        from redis.asyncio import Redis

        return int(await Redis(connection_pool=broker.connection_pool).xlen(broker.queue_name))


class _Taskiq:
    packages = ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop", "orjson")
    settings = Settings(
        delivery="RedisStreamBroker, acknowledged when the result is saved (default)",
        results="RedisAsyncResultBackend, 1 h",
        worker=f"taskiq worker --workers 1 --max-async-tasks {NOOP_CONCURRENCY} --max-prefetch {PREFETCH} --no-parse, "
        f"xread_count {PREFETCH}, orjson, uvloop, hiredis",
        bulk="has none: single enqueues, 32 abreast",
    )

    def work(self) -> None:
        concurrency = str(workload.CONCURRENCY or NOOP_CONCURRENCY)
        flags = ("--workers", "1", "--max-async-tasks", concurrency, "--max-prefetch", str(PREFETCH), "--no-parse")
        sys.argv = ["taskiq", "worker", f"{__name__}:broker", *flags, "--log-level", "WARNING"]
        main()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[_Producer]:
        await broker.startup()
        yield _Producer()
        await broker.shutdown()


PEER = _Taskiq()
