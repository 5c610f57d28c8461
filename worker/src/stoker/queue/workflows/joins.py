"""The joins of groups: which members they wait for, and the cancellation of tasks that are not enqueued yet."""

from collections.abc import Sequence
from typing import NamedTuple

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.partitions import Partitions
from stoker.queue.scripts import ScriptCall, chunks
from stoker.queue.workflows.effects import PERFORMED_AT_ONCE, Keyed, relay_call
from stoker.redis.client import RedisClient
from stoker.rules.effects import LeaveTombstone
from stoker.rules.message import Message
from stoker.rules.partitions import PartitionKey, partition_of


class JoinProgress(NamedTuple):
    """A join that waits for `missing` of its `total` members; `members` are the numbers of some of the missing ones."""

    total: int
    missing: int
    members: list[int]


class Joins:
    """The joins of one namespace. Raises RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, namespace: str, partitions: Partitions) -> None:
        self._redis = redis
        self._namespace = namespace
        self._partitions = partitions

    async def progress(self, queue: str, join: str, most: int) -> JoinProgress | None:
        """What this join waits for, naming at most `most` members; None where it is not open."""
        keys = [Keys(self._namespace, partition) for partition in await self._partitions.names(queue)]
        replies = await scripts.run(self._redis, *(ScriptCall("missing", k, [join, most]) for k in keys))
        return next((JoinProgress(reply[0], reply[1], reply[2:]) for reply in replies if reply), None)

    async def leave_tombstones(self, queue: str, tasks: Sequence[tuple[PartitionKey, Message]]) -> None:
        """Record tasks as cancelled before they are enqueued. A later enqueue of that id finds the tombstone and does nothing."""
        names = await self._partitions.names(queue)
        by_partition: dict[str, list[Keyed]] = {}
        for key, message in tasks:
            partition = partition_of(key, names)
            by_partition.setdefault(partition, []).append(Keyed("", LeaveTombstone(partition, message)))
        for partition, effects in by_partition.items():
            for batch in chunks(effects, PERFORMED_AT_ONCE):
                await scripts.run(self._redis, relay_call(Keys(self._namespace, partition), batch))
