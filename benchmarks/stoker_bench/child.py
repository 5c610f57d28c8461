"""What runs in a peer's environment: `python -m stoker_bench.child work|produce|describe PEER`.

`produce` is driven by lines of JSON: {"do": ..., ...} on standard input, one answer each on standard output.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from stoker_bench.ledger import main_thread_cpu
from stoker_bench.peers import Producer, load

CHUNK = 1000

Step = Callable[[Producer, str, range, str], Awaitable[None]]


async def _bulk(producer: Producer, task: str, numbers: range, text: str) -> None:
    await producer.many(task, numbers, text)


async def _gather(producer: Producer, task: str, numbers: range, text: str) -> None:
    await producer.gather(task, numbers, text)


async def _single(producer: Producer, task: str, numbers: range, text: str) -> None:
    for number in numbers:
        await producer.one(task, number, text)


STEPS: dict[str, tuple[Step, int]] = {"bulk": (_bulk, CHUNK), "gather": (_gather, CHUNK), "single": (_single, 20)}


async def _fill(producer: Producer, task: str, count: int, text: str) -> dict[str, Any]:
    """Preload `count` tasks by the fastest way."""
    for first in range(0, count, CHUNK):
        await producer.many(task, range(first, min(first + CHUNK, count)), text)
    return {"waiting": await producer.waiting()}


async def _rate(producer: Producer, way: str, seconds: float, text: str, server: int) -> dict[str, Any]:
    """Enqueue one way for about so long, after a step to warm up."""
    step, size = STEPS[way]
    await step(producer, "noop", range(size), text)
    before = await producer.waiting()
    count, cpu, served, began = 0, time.process_time(), main_thread_cpu(server), time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        await step(producer, "noop", range(count, count + size), text)
        count += size
    used = {"client_cpu": time.process_time() - cpu, "server_cpu": (main_thread_cpu(server) - served) / 1e9}
    return {"count": count, "seconds": elapsed, "arrived": await producer.waiting() - before, **used}


async def _trickle(producer: Producer, first: int, count: int, pause: float) -> dict[str, Any]:
    """Enqueue one by one into an idle queue, never in step with anybody's polling. Returns when each call began."""
    began = []
    for number in range(first, first + count):
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        began.append(time.monotonic_ns())
        await producer.one("stamp", number, "")
    return {"began": began}


async def _produce(name: str) -> None:
    verbs: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {"fill": _fill, "rate": _rate, "trickle": _trickle}
    async with load(name).producer() as producer:
        print(json.dumps({"ready": True}), flush=True)
        # Nothing else runs while it waits for a command, and a blocking read costs the idle loop nothing.
        for line in sys.stdin:
            command = json.loads(line)
            answer = await verbs[command.pop("do")](producer, **command)
            print(json.dumps(answer), flush=True)


def _describe(name: str) -> None:
    peer = load(name)
    versions = {package: version(package) for package in peer.packages}
    print(json.dumps({"settings": peer.settings._asdict(), "versions": versions, "python": sys.version}))


def main() -> None:
    """Do what the benchmark asks."""
    verb, name = sys.argv[1:]
    if verb == "work":
        load(name).work()
    elif verb == "describe":
        _describe(name)
    else:
        _run(_produce(name))


def _run(work: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    main()
