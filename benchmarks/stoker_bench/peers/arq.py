"""arq."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from arq import create_pool, func, run_worker
from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name

from stoker_bench import workload
from stoker_bench.peers import Settings
from stoker_bench.peers.gathering import abreast

NOOP_CONCURRENCY = 32
POLL_DELAY = 0.005
address = RedisSettings.from_dsn(workload.URL)


def _with_context(function: Callable[..., Coroutine[Any, Any, int]]) -> Any:
    async def run_it(_context: Any, number: int, text: str) -> int:
        return await function(number, text)

    return func(run_it, name=function.__name__)


class WorkerSettings:
    """What `arq` is started with."""

    functions = [_with_context(function) for function in (workload.noop, workload.nap, workload.stamp)]  # noqa: RUF012
    redis_settings = address
    max_jobs = workload.CONCURRENCY or NOOP_CONCURRENCY
    poll_delay = POLL_DELAY
    log_results = False


class _Producer:
    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def one(self, task: str, number: int, text: str) -> None:
        await self._redis.enqueue_job(task, number, text)

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        await abreast(self, task, numbers, text)

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        await abreast(self, task, numbers, text)

    async def waiting(self) -> int:
        return int(await self._redis.zcard(default_queue_name))


class _Arq:
    packages = ("arq", "redis", "hiredis", "uvloop")
    settings = Settings(
        delivery="pessimistic: stays queued until it succeeded, 5 tries (default)",
        results="kept for 1 h (default)",
        worker=f"arq WorkerSettings, max_jobs {NOOP_CONCURRENCY} (default 10; 100 for naps), "
        f"poll_delay {POLL_DELAY * 1000:g} ms (default 500), log_results off, uvloop, hiredis",
        bulk="has none: single enqueues, 32 abreast",
    )

    def work(self) -> None:
        uvloop.install()
        run_worker(WorkerSettings)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[_Producer]:
        redis = await create_pool(address)
        yield _Producer(redis)
        await redis.aclose()


PEER = _Arq()
