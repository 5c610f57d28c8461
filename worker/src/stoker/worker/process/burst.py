"""Burst: work until the queues are empty, then drain and exit with 0. For Kubernetes Jobs and CI.

A queue is empty when nothing is ready (parked tasks and the inbox count, unclaimed ones do not) and nothing is due: retries, delays
and schedules that are due later are left to other workers. One that is paused is done with.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress

from stoker.errors import StokerError
from stoker.queue.reads.statistics import read_stats
from stoker.queue.records import QueueStats
from stoker.redis.client import RedisClient
from stoker.rules.identity import QueueId
from stoker.worker.loop.partition_group import PartitionGroup

SETTLES = 1.0
"""Seconds after the start until the first look: the minder has taken in the inbox and what is due."""
LOOK_INTERVAL = 0.2
_log = logging.getLogger("stoker.worker")


def is_empty(stats: Iterable[QueueStats]) -> bool:
    """Whether nothing is left to do now."""
    return all(each.paused or not (each.ready or each.parked or each.due) for each in stats)


async def drain_when_empty(group: PartitionGroup, redis: RedisClient) -> None:
    """Drain the group once nothing runs here and its queues are empty."""
    keys = [partition.broker.keys for partition in group.partitions]
    partitions = [QueueId(each.namespace, each.queue) for each in keys]
    await asyncio.sleep(SETTLES)
    while not group.draining:
        if not group.busy and not any(worker.held for worker in group.workers):
            with suppress(StokerError):  # the turns say that Redis is away, and wait for it
                if is_empty(await read_stats(redis, partitions)):
                    _log.info("the queues are empty: leaving", extra={"runs": group.runs})
                    group.drain()
                    return
        await asyncio.sleep(LOOK_INTERVAL)
