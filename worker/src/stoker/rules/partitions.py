"""Partitions: a queue too busy for one Redis server is split into several, each in its own hash slot.

To scripts and keys, a partition is a queue of its own. The first has the queue's name, so a client that knows of no partitions
(an older version, an XADD to the inbox) enqueues where a worker looks. The others are named `queue:1`, `queue:2`, ...: names of
queues contain no colon.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from stoker.errors import Invalid

MOST = 64
_NAME = re.compile(rb"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?(:[1-9][0-9]?)?")


class PartitionKey(NamedTuple):
    """What determines the partition of a task: its claim or concurrency key, which are counted per partition, else its id."""

    id: str
    claim: str = ""
    limit: str = ""


def partition_names(queue: str, partitions: int) -> list[str]:
    """The names of all partitions of a queue, in order."""
    return [queue, *(f"{queue}:{number}" for number in range(1, partitions))]


def is_partition(name: bytes) -> bool:
    """Whether this is the name of a partition: of a queue, or of one of its further partitions."""
    return _NAME.fullmatch(name) is not None


def base(partition: str) -> str:
    """The queue that a partition belongs to."""
    return partition.partition(":")[0]


def is_first(partition: str) -> bool:
    """Whether this is the first partition of its queue, which holds what is stored once for the whole queue."""
    return ":" not in partition


def partition_of(key: PartitionKey, names: Sequence[str]) -> str:
    """The partition of a task, always the same for the same key and names.

    Raises Invalid for a task with both a claim and a concurrency key, which may belong to different partitions.
    """
    if len(names) == 1:
        return names[0]
    if key.claim and key.limit:
        raise Invalid(f"task {key.id}: in a queue with partitions a task is either unique or has a concurrency key, not both")
    return names[crc32((key.claim or key.limit or key.id).encode()) % len(names)]


def share(slots: int, partitions: int, number: int) -> int:
    """How many of a worker's slots serve partition `number`: split evenly, and at least one each."""
    return max(1, slots // partitions + (number < slots % partitions))
