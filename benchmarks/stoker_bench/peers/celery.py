"""Celery on Redis, acknowledging late. A blocking client."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from celery import Celery

from stoker_bench import workload
from stoker_bench.peers import Settings
from stoker_bench.peers.gathering import together

PREFETCH = 128

CONNECTIONS = 2000
"""With redis-py's own limit of 100, 100 threads can fail to acknowledge."""

app = Celery("bench", broker=workload.URL, backend=workload.URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=PREFETCH,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
    result_expires=3600,
    redis_max_connections=CONNECTIONS,
    broker_transport_options={"max_connections": CONNECTIONS},
)
tasks = {
    function.__name__.removesuffix("_blocking"): app.task(name=function.__name__)(function)
    for function in (workload.noop_blocking, workload.nap_blocking, workload.stamp_blocking)
}


class _Producer:
    async def one(self, task: str, number: int, text: str) -> None:
        tasks[task].delay(number, text)

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        with app.producer_pool.acquire(block=True) as producer:
            for number in numbers:
                tasks[task].apply_async((number, text), producer=producer)

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        await together(self, task, numbers, text)

    async def waiting(self) -> int:
        with app.connection_for_read() as connection:
            return int(connection.default_channel.client.llen("celery"))


class _Celery:
    packages = ("celery", "kombu", "redis", "hiredis")
    settings = Settings(
        delivery="task_acks_late, task_reject_on_worker_lost",
        results="Redis backend, 1 h",
        worker=f"celery worker --pool solo (naps: --pool threads --concurrency 100), worker_prefetch_multiplier {PREFETCH}, "
        "no events, gossip, mingle or heartbeat, hiredis",
        bulk="has none: apply_async in a loop on one producer",
    )

    def work(self) -> None:
        pool = ("--pool", "threads", "--concurrency", str(workload.CONCURRENCY)) if workload.CONCURRENCY else ("--pool", "solo")
        quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
        app.worker_main(["worker", *pool, *quiet])

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[_Producer]:
        yield _Producer()
        app.close()


PEER = _Celery()
