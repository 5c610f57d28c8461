"""The least that reading, running and acknowledging a task can cost: a bare stream, no results, no fences, no retries.

- one: redis-py, a task read, run and acknowledged, then the next
- batched: redis-py, 100 acknowledged and 100 read in one round trip, an asyncio task for each
- protocol: the same on a uvloop protocol with hiredis, the commands written by hand, two batches in flight
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
import uvloop
from redis.asyncio import Redis

from stoker_bench.workload import LEDGER, URL, noop

STREAM, GROUP, CONSUMER, BATCH, CHUNK = "floor", "group", "consumer", 100, 2_000
READ = ("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", BATCH, "STREAMS", STREAM, ">")


async def prepare(redis: Redis, count: int) -> None:
    """The stream, its group, its entries."""
    await redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    for first in range(0, count, CHUNK):
        pipeline = redis.pipeline(transaction=False)
        for number in range(first, min(first + CHUNK, count)):
            pipeline.xadd(STREAM, {"n": number})
        await pipeline.execute()


async def one_by_one(redis: Redis) -> None:
    """A task at a time."""
    while True:
        found: Any = await redis.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=1)
        if not found:
            return
        [(_, [(entry, fields)])] = found
        await noop(int(fields[b"n"]), "")
        await redis.xack(STREAM, GROUP, entry)


async def batched(redis: Redis) -> None:
    """100 at a time."""
    done: list[bytes] = []
    while True:
        pipeline = redis.pipeline(transaction=False)
        if done:
            pipeline.xack(STREAM, GROUP, *done)
        pipeline.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=BATCH)
        found = (await pipeline.execute())[-1]
        if not found:
            return
        entries = found[0][1]
        await asyncio.gather(*(asyncio.create_task(noop(int(fields[b"n"]), "")) for _, fields in entries))
        done = [entry for entry, _ in entries]


class Floor(asyncio.Protocol):
    """Two batches in flight; every reply with entries is answered with their acknowledgement and the next read."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._read = hiredis.pack_command(READ)
        self._jobs: set[asyncio.Task[int]] = set()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own kind
        self._transport.write(self._read + self._read)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, list):
                self._start(reply[0][1])
            elif reply is None:
                self._end()

    def _end(self) -> None:
        # The other batch may still run.
        if not self._jobs and not self.ended.done():
            self.ended.set_result(None)

    def _start(self, entries: Sequence[Any]) -> None:
        left = len(entries)

        def finished(job: asyncio.Task[int]) -> None:
            nonlocal left
            left -= 1
            self._jobs.discard(job)
            if not left:
                acknowledge = ("XACK", STREAM, GROUP, *(entry for entry, _ in entries))
                self._transport.write(hiredis.pack_command(acknowledge) + self._read)

        for _, fields in entries:
            job = asyncio.create_task(noop(int(fields[1]), ""))
            self._jobs.add(job)
            job.add_done_callback(finished)


async def protocol(_redis: Redis) -> None:
    """No client library at all."""
    address = urlsplit(URL)
    transport, floor = await asyncio.get_running_loop().create_connection(Floor, address.hostname or "", address.port or 0)
    await floor.ended
    transport.close()


async def main(way: str) -> None:
    """Fill the stream and drain it."""
    redis = Redis.from_url(URL)
    await prepare(redis, len(LEDGER.counts))
    await {"one": one_by_one, "batched": batched, "protocol": protocol}[way](redis)
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
    print(json.dumps({"done": True}))
