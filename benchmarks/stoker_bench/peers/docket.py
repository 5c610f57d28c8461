"""docket (pydocket)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import uvloop
from docket import Docket, Worker

from stoker_bench import workload
from stoker_bench.peers import Settings
from stoker_bench.peers.gathering import abreast

NOOP_CONCURRENCY = 50
NAME = "bench"
ADDRESS = f"{workload.URL}?max_connections=2000"  # redis-py's own limit of 100 fails at concurrency 100

tasks = [workload.noop, workload.nap, workload.stamp]
named = {function.__name__: function for function in tasks}


class _Producer:
    def __init__(self, docket: Docket) -> None:
        self._docket = docket

    async def one(self, task: str, number: int, text: str) -> None:
        await self._docket.add(named[task])(number, text)

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        await self._docket.add_many([self._docket.call(named[task])(number, text) for number in numbers])

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        await abreast(self, task, numbers, text)

    async def waiting(self) -> int:
        async with self._docket.redis() as redis:
            return int(await redis.xlen(self._docket.stream_key))


class _Docket:
    packages = ("pydocket", "redis", "hiredis", "uvloop")
    settings = Settings(
        delivery="streams, redelivered after 5 min (default)",
        results="kept for 1 h",
        worker=f"docket worker --concurrency {NOOP_CONCURRENCY} (default 10; 100 for naps), logging at WARNING, uvloop, hiredis",
        bulk="docket.add_many (gathered: 32 abreast)",
    )

    def work(self) -> None:
        logging.getLogger("docket").setLevel(logging.WARNING)
        uvloop.install()
        concurrency = workload.CONCURRENCY or NOOP_CONCURRENCY
        asyncio.run(Worker.run(NAME, ADDRESS, concurrency=concurrency, tasks=[f"{__name__}:tasks"]))

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[_Producer]:
        async with Docket(name=NAME, url=ADDRESS, execution_ttl=timedelta(hours=1)) as docket:
            for function in tasks:
                docket.register(function)
            yield _Producer(docket)


PEER = _Docket()
