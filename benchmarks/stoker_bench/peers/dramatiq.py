"""dramatiq on its Redis broker: threads, a blocking client."""

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

NOOP_THREADS = 8
IDLE_MS = 10
os.environ.setdefault("dramatiq_worker_timeout", str(IDLE_MS))  # read when dramatiq is imported

import dramatiq  # noqa: E402
from dramatiq.brokers.redis import RedisBroker  # noqa: E402
from dramatiq.cli import main, make_argument_parser  # noqa: E402
from dramatiq.results import Results  # noqa: E402
from dramatiq.results.backends import RedisBackend  # noqa: E402

from stoker_bench import workload  # noqa: E402
from stoker_bench.peers import Settings  # noqa: E402
from stoker_bench.peers.gathering import together  # noqa: E402

broker = RedisBroker(url=workload.URL)
broker.add_middleware(Results(backend=RedisBackend(url=workload.URL), store_results=True, result_ttl=3_600_000))
dramatiq.set_broker(broker)
tasks = {
    function.__name__.removesuffix("_blocking"): dramatiq.actor(function)
    for function in (workload.noop_blocking, workload.nap_blocking, workload.stamp_blocking)
}


class _Producer:
    async def one(self, task: str, number: int, text: str) -> None:
        tasks[task].send(number, text)

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        dramatiq.group([tasks[task].message(number, text) for number in numbers]).run()

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        await together(self, task, numbers, text)

    async def waiting(self) -> int:
        return int(broker.do_qsize("default"))


class _Dramatiq:
    packages = ("dramatiq", "redis", "hiredis")
    settings = Settings(
        delivery="acknowledged after the run, Retries on (default)",
        results="Results middleware on RedisBackend, 1 h",
        worker=f"dramatiq --processes 1 --threads {NOOP_THREADS} (default; 100 for naps), hiredis, "
        f"idle polling at most every {IDLE_MS} ms (default 1,000)",
        bulk="group(...).run(), which sends one by one",
    )

    def work(self) -> None:
        threads = str(workload.CONCURRENCY or NOOP_THREADS)
        sys.argv = ["dramatiq", __name__, "--processes", "1", "--threads", threads]
        sys.exit(main(make_argument_parser().parse_args()))

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[_Producer]:
        yield _Producer()


PEER = _Dramatiq()
