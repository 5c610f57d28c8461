"""Partitions: a queue too busy for one Redis server is spread over several places, each in a slot of its own.

A place is what the keys know: the first carries the queue's own name, so that whoever does not know of the others (an older
client, another language at the inbox) enqueues where a worker looks; the others are numbered behind a colon, which no queue's
name may hold.
"""

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from stoker.errors import Invalid

MOST = 64


class Kind(NamedTuple):
    """What decides the place of a task: its id, or what must lie together to be counted together."""

    id: str
    claim: str = ""
    limit: str = ""


def places(queue: str, partitions: int) -> list[str]:
    """All places of a queue, in order."""
    return [queue, *(f"{queue}:{number}" for number in range(1, partitions))]


def place_of(kind: Kind, names: Sequence[str]) -> str:
    """Where a task of this kind lies, the same at every call.

    Tasks with the same claim or concurrency key share a place. Raises Invalid for one that has both, which may disagree.
    """
    if len(names) == 1:
        return names[0]
    if kind.claim and kind.limit:
        raise Invalid(f"task {kind.id}: in a queue with partitions a task is either unique or has a concurrency key, not both")
    return names[crc32((kind.claim or kind.limit or kind.id).encode()) % len(names)]


def share(slots: int, partitions: int, number: int) -> int:
    """How many of a worker's slots work on the partition of this number: as even as can be, and never none."""
    return max(1, slots // partitions + (number < slots % partitions))
