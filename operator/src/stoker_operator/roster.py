"""What the operator remembers: one entry per TaskQueue, and who holds which queue in Redis.

The reconciler writes `findings`, the autoscaler `reading` and `scaling`, the reporter `status`. All of it can be
lost at any moment: a restart reads it anew from the cluster.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import Struct

from stoker.autoscale.decide import Memory
from stoker.manifest import TaskQueue
from stoker.queue.records import QueueStats
from stoker_operator.plan import Halt
from stoker_operator.resources import Ref


class Workers(Struct, frozen=True):
    """The Deployment: `replicas` asked for, `pods` there, `ready` of them, and why some cannot start."""

    uid: str
    replicas: int
    pods: int
    ready: int
    failing: Halt | None = None


class Findings(Struct, frozen=True):
    """What the last reconcile found. No `queue`: the spec could not be read. No `redis_url`: it is not known."""

    uid: str
    generation: int
    queue: TaskQueue | None = None
    redis_url: str = ""
    workers: Workers | None = None
    halt: Halt | None = None

    @property
    def suspended(self) -> bool:
        """Whether nothing may be changed."""
        return self.queue is not None and self.queue.spec.suspend

    @property
    def readable(self) -> bool:
        """Whether its queue can be read. One that another TaskQueue serves is read for that one."""
        taken = self.halt is not None and self.halt.reason in {"QueueTaken", "Deleting"}
        return bool(self.redis_url) and self.queue is not None and not taken

    @property
    def scalable(self) -> bool:
        """Whether the autoscaler may act."""
        return self.halt is None and self.readable and not self.suspended and self.workers is not None


class Reading(Struct, frozen=True):
    """What Redis said about the queue; `trouble` where it said nothing."""

    stats: QueueStats | None = None
    trouble: Halt | None = None


class Change(Struct, frozen=True):
    """The last change of the number of workers, as it stands in the status."""

    at: str
    before: int
    after: int
    reason: str


class Scaling(Struct, frozen=True):
    """What the autoscaler thinks: how many and why, the memory for its next decision, its last change.

    `refused` where the cluster did not let it act.
    """

    desired: int
    reason: str
    memory: Memory
    change: Change | None = None
    refused: Halt | None = None


@dataclass(slots=True)
class Entry:
    """All that is known about one TaskQueue. Its parts are replaced whole, never changed."""

    ref: Ref
    findings: Findings
    reading: Reading = field(default_factory=Reading)
    scaling: Scaling | None = None
    status: dict[str, Any] = field(default_factory=dict)
    written_at: float = float("-inf")
    scaled_at: float = float("-inf")
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Claim(NamedTuple):
    """A TaskQueue's wish for a queue in Redis. The oldest wins: the order of the fields decides."""

    created: str
    ref: Ref
    place: tuple[str, str]


class Roster:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self.entries: dict[Ref, Entry] = {}
        self._claims: dict[Ref, Claim] = {}

    def claim(self, claim: Claim) -> set[Ref]:
        """Note a wish. Returns the others whose turn it may have changed."""
        before = self._claims.get(claim.ref)
        self._claims[claim.ref] = claim
        if before == claim:
            return set()
        return self._rivals(claim) | (self._rivals(before) if before else set())

    def holder(self, claim: Claim) -> Ref | None:
        """Who serves this queue instead, if anyone."""
        oldest = min(other for other in self._claims.values() if other.place == claim.place)
        return None if oldest.ref == claim.ref else oldest.ref

    def forget(self, ref: Ref) -> set[Ref]:
        """It is gone. Returns those who waited for its queue."""
        self.entries.pop(ref, None)
        claim = self._claims.pop(ref, None)
        return self._rivals(claim) if claim else set()

    def by_redis(self) -> Iterator[tuple[str, list[Entry]]]:
        """The entries whose queues can be read, by their Redis."""
        groups: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            if entry.findings.readable:
                groups.setdefault(entry.findings.redis_url, []).append(entry)
        yield from groups.items()

    def _rivals(self, claim: Claim) -> set[Ref]:
        return {other.ref for other in self._claims.values() if other.place == claim.place and other.ref != claim.ref}
