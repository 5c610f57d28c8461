"""Cost of a task against the number that wait: enqueue, fetch and settle in batches, at a constant depth."""

import json
import os
import sys
import time
from typing import Any

import uvloop

from stoker.client.client import Client
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.settlements import Settlement
from stoker.redis.connect import connect
from stoker.rules.call import TaskCall
from stoker.rules.message import encode_payload
from stoker.rules.settle import Succeed
from stoker_bench.ledger import main_thread_cpu
from stoker_bench.workload import URL

BATCH, FILLED_AT_ONCE, SWEEP_EVERY = 50, 2_000, 1.0
WORKER = "depth-probe"
PAYLOAD = encode_payload({"number": 12345, "text": "x" * 230})


class Queue:
    """A queue that is kept at one depth."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._name = f"depth-{depth}"
        self._client = Client.at(URL, "bench")
        self._broker = Broker(connect(URL), Keys("bench", self._name))
        self._call = TaskCall("noop", self._name, PAYLOAD)
        self._held: list[Settlement] = []

    async def fill(self) -> None:
        """Let so many wait."""
        for first in range(0, self.depth, FILLED_AT_ONCE):
            await self._client.enqueue([self._call] * min(FILLED_AT_ONCE, self.depth - first))
        await self._step()

    async def measure(self, seconds: float) -> dict[str, Any]:
        """As many in as out, for so long."""
        server = int(os.environ["BENCH_SERVER"])
        count, sweep = 0, time.perf_counter() + SWEEP_EVERY
        cpu, served, began = time.process_time(), main_thread_cpu(server), time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            await self._step()
            count += BATCH
            if now > sweep:  # as every worker does
                await self._broker.sweep()
                sweep += SWEEP_EVERY
        elapsed = time.perf_counter() - began
        return {
            "depth": self.depth,
            "batch": BATCH,
            "tasks": count,
            "us": elapsed / count * 1e6,
            "client_cpu_us": (time.process_time() - cpu) / count * 1e6,
            "server_cpu_us": (main_thread_cpu(server) - served) / count / 1e3,
        }

    async def _step(self) -> None:
        await self._client.enqueue([self._call] * BATCH)
        turn = await self._broker.turn(self._held, BATCH, WORKER)
        assert len(turn.deliveries) == BATCH
        assert not turn.refused
        self._held = [Settlement(each.id, each.fence, Succeed(b"0")) for each in turn.deliveries]


async def probe(rounds: int, seconds: float, depths: list[int]) -> list[dict[str, Any]]:
    """Fill all queues, then measure them in turn."""
    queues = [Queue(depth) for depth in depths]
    for queue in queues:
        await queue.fill()
    return [{"round": number, **await queue.measure(seconds)} for number in range(rounds) for queue in queues]


if __name__ == "__main__":
    rounds, seconds, *depths = sys.argv[1:]
    print(json.dumps(uvloop.run(probe(int(rounds), float(seconds), [int(depth) for depth in depths]))))
