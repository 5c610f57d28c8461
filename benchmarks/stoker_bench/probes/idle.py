"""What idle workers cost their server: many `stoker worker` in one process, each with its own connections, heartbeat and chores.

    PYTHONPATH=benchmarks .venv/bin/python -m stoker_bench.probes.idle 1 10 50 100 200

The suite `workers` starts a process for each, which takes minutes, and measures the latency of a task too.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from stoker import Stoker
from stoker.queue.keys import Keys
from stoker.redis.connect import ThreadClient, connect
from stoker.rules.identity import QueueId
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop import chores
from stoker.worker.loop.heartbeat import Heartbeat
from stoker.worker.loop.partition_group import PartitionGroup, ServedQueue
from stoker.worker.loop.tally_flusher import TallyFlusher
from stoker.worker.loop.watchdog import Watchdog
from stoker.worker.process import process
from stoker_bench import server

SECONDS, SETTLES = 20.0, 6.0
APART = 0.05
"""Seconds between two starts, so that they do not wait in step."""


async def main(count: int) -> None:
    """Print one row."""
    with tempfile.TemporaryDirectory() as folder, server.running(server.binaries()["valkey"], Path(folder)) as running:
        beats = []
        for number in range(count):
            beats.append(await _start(number, running.url))
            await asyncio.sleep(APART)
        await asyncio.sleep(SETTLES)
        commands, cpu, began = running.commands, running.cpu, time.monotonic()
        await asyncio.sleep(SECONDS)
        took = time.monotonic() - began
        cpu = running.cpu - cpu
        asked = running.commands - commands - 1  # the second question itself
        print(f"{count:4} idle workers: {asked / took:6.1f} commands/s, server CPU {cpu / 1e6 / took:5.2f} ms/s", flush=True)
        for beat in beats:
            await asyncio.to_thread(beat.stop)


async def _start(number: int, url: str) -> Heartbeat:
    """What `work` does for its worker."""
    app = Stoker("idle")
    app.redis_url = url
    settings = WorkerSettings(queue="bench", redis_url=url)
    redis, loop, watchdog = connect(url), asyncio.get_running_loop(), Watchdog()
    metrics = WorkerMetrics(CollectorRegistry(), QueueId(settings.namespace, settings.queue), settings.concurrency)
    group = PartitionGroup(f"host{number}-{os.getpid()}-abcdef", app, redis, [ServedQueue(settings, metrics)])
    group.open([await process._partitions(redis, settings)])
    interval = settings.lease.duration / process.BEATS_PER_LEASE
    beat = Heartbeat(ThreadClient(url), interval, watchdog, group.workers, loop.call_soon_threadsafe)
    loops = [watchdog.run(metrics.lag.set), group.run(), process._keep_announced(group, redis, settings.namespace)]
    tallies = TallyFlusher(redis, Keys(settings.namespace, settings.queue), group.name, metrics.tasks, lambda: group.version)
    loops += map(chores.repeat, process._chores(group, app, settings, redis, [tallies]))
    KEPT.extend(loop.create_task(each) for each in loops)
    beat.start()
    return beat


KEPT: list["asyncio.Task[None]"] = []
"""The loops of all workers, until the process ends."""

if __name__ == "__main__":
    for workers in sys.argv[1:]:
        if os.fork() == 0:
            asyncio.run(main(int(workers)))
            os._exit(0)
        os.wait()
