"""Many workers in one process, each with its own connections, heartbeat and chores: `python crowd.py FIRST COUNT LEASE URL`."""

import asyncio
import sys

from bakery import app  # type: ignore[import-not-found]
from prometheus_client import CollectorRegistry

from stoker.manifest.policies import Lease
from stoker.redis.connect import ThreadClient, connect
from stoker.rules.identity import QueueId
from stoker.rules.units import Duration
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop import chores
from stoker.worker.loop.heartbeat import Heartbeat
from stoker.worker.loop.partition_group import PartitionGroup, ServedQueue
from stoker.worker.loop.watchdog import Watchdog
from stoker.worker.process import process


async def main(first: int, count: int, lease: float, url: str) -> None:
    app.redis_url = url
    loops: list[asyncio.Task[None]] = []
    for number in range(first, first + count):
        settings = WorkerSettings(queue="default", redis_url=url, concurrency=1, lease=Lease(Duration(lease)))
        redis, loop, watchdog = connect(url), asyncio.get_running_loop(), Watchdog()
        metrics = WorkerMetrics(CollectorRegistry(), QueueId(settings.namespace, settings.queue), settings.concurrency)
        group = PartitionGroup(f"crowd{number}-1-abcdef", app, redis, [ServedQueue(settings, metrics)])
        group.open([await process._partitions(redis, settings)])
        interval = lease / process.BEATS_PER_LEASE
        Heartbeat(ThreadClient(url), interval, watchdog, group.workers, loop.call_soon_threadsafe).start()
        works = [watchdog.run(metrics.lag.set), group.run(), *map(chores.repeat, process._chores(group, app, settings, redis, []))]
        loops += [loop.create_task(each) for each in works]
    await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
