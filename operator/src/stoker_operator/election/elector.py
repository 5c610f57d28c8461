"""Takes the Lease, renews it, and gives it up. Who does not hold it writes nothing (state/write_guard.py).

A Lease fences nothing by itself: the API server takes a write of a former leader that is late. So each write that could harm also
has a precondition (docs/architecture/operator.md).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from stoker.errors import NotFound, StokerError
from stoker_operator import metrics
from stoker_operator.election.lease import (
    Record,
    Sighting,
    Timing,
    free,
    new_lease,
    record_of,
    released,
    renewed,
    sighted,
    taken,
    with_record,
)
from stoker_operator.kube import KubernetesConflict
from stoker_operator.state.ref import Object
from stoker_operator.state.write_guard import NotLeader, WriteGuard, monotonic

log = logging.getLogger(__name__)
JITTER = 0.2
"""Of the pause between attempts of candidates, so that they do not come at once."""


class Leases(Protocol):
    """Leases of the API server. All methods raise what Kube raises."""

    async def lease(self, namespace: str, name: str) -> Object:
        """The Lease."""

    async def create_lease(self, lease: Object) -> Object:
        """Conflict if it exists."""

    async def replace_lease(self, lease: Object) -> Object:
        """Conflict if it is no longer at this resourceVersion."""


class Elector:
    """One candidate. `identity` is unique to this process: a restarted container is another candidate.

    `looked` is called after each attempt.
    """

    def __init__(
        self,
        leases: Leases,
        guard: WriteGuard,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing,
        looked: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.holder = ""
        self._leases = leases
        self._guard = guard
        self._namespace, self._name = namespace, name
        self._identity = identity
        self._timing = timing
        self._looked = looked
        self._clock = clock
        self._seen: Sighting | None = None
        self._lease: Object = {}
        self._renewed_at = float("-inf")
        self._failing = ""
        guard.close()

    @property
    def leading(self) -> bool:
        """Whether this process holds the Lease, as far as it knows."""
        return self.holder == self._identity

    @property
    def role(self) -> str:
        """In a few words."""
        if self.leading:
            return "leading"
        return f"standby, {self.holder} leads" if self.holder else "candidate"

    async def acquire(self) -> None:
        """Until this process holds the Lease. Raises nothing: a Lease that cannot be read is tried again."""
        while True:
            if await self._attempted(self._candidate):
                return
            await asyncio.sleep(self._timing.retry * (1 + JITTER * random.random()))

    async def hold(self) -> None:
        """Renew the Lease until cancelled. Raises NotLeader as soon as another may hold it; the guard refuses writes by then."""
        while True:
            await asyncio.sleep(self._timing.retry)
            if not await self._attempted(self._renew) and self._clock() - self._renewed_at >= self._timing.deadline:
                raise self._lost(f"it was not renewed for {self._timing.deadline:g}s: {self._failing}")

    async def release(self) -> None:
        """Give the Lease up, so that another need not wait until it expires. Call it after the last write. Raises nothing."""
        self._guard.close()
        if self.leading:
            await self._attempted(self._give_up)
        self._deposed()

    async def _attempted(self, act: Callable[[], Awaitable[bool]]) -> bool:
        """One attempt. Its failure is logged where it is another than the last one."""
        try:
            async with asyncio.timeout(self._timing.attempt):
                return await act()
        except KubernetesConflict as error:
            self._failing = f"another was faster: {error}"
        except NotLeader:
            raise
        except (StokerError, TimeoutError) as error:
            failing = str(error) or f"the API server did not answer within {self._timing.attempt:g}s"
            if failing != self._failing:
                log.warning("cannot use Lease %s/%s: %s", self._namespace, self._name, failing)
            self._failing = failing
        finally:
            self._looked()
        return False

    async def _candidate(self) -> bool:
        try:
            found = await self._leases.lease(self._namespace, self._name)
        except NotFound:
            began = self._clock()
            wanted = taken(Record(), self._identity, self._timing, datetime.now(UTC))
            self._holds(await self._leases.create_lease(with_record(new_lease(self._namespace, self._name), wanted)), began)
            return True
        record = record_of(found)
        self._seen = sighted(self._seen, record, self._clock())
        own = record.holder == self._identity  # taken, but the reply was lost
        if not own and not free(self._seen, self._clock()):
            self._waits_for(record.holder)
            return False
        began = self._clock()
        wanted = taken(record, self._identity, self._timing, datetime.now(UTC))
        self._holds(await self._leases.replace_lease(with_record(found, wanted)), began)
        return True

    async def _renew(self) -> bool:
        began = self._clock()
        wanted = renewed(record_of(self._lease), datetime.now(UTC))
        try:
            self._holds(await self._leases.replace_lease(with_record(self._lease, wanted)), began)
        except KubernetesConflict:
            await self._compare()
            return False
        except NotFound as error:
            raise self._lost("it was deleted") from error
        return True

    async def _compare(self) -> None:
        """After a conflict: the reply to an earlier renewal was lost, a person has edited the Lease, or another holds it."""
        found = await self._leases.lease(self._namespace, self._name)
        if (holder := record_of(found).holder) != self._identity:
            raise self._lost(f"{holder or 'nobody'} holds it")
        self._lease = found

    async def _give_up(self) -> bool:
        wanted = released(record_of(self._lease), datetime.now(UTC))
        await self._leases.replace_lease(with_record(self._lease, wanted))
        log.info("released the lead", extra={"lease": f"{self._namespace}/{self._name}"})
        return True

    def _holds(self, lease: Object, began: float) -> None:
        self._lease, self._renewed_at = lease, began
        self._guard.allow(began + self._timing.deadline)
        self._failing = ""
        if not self.leading:
            self.holder = self._identity
            metrics.LEADER.set(1)
            log.info("leading", extra={"lease": f"{self._namespace}/{self._name}", "identity": self._identity})

    def _waits_for(self, holder: str) -> None:
        self._failing = ""
        if self.holder != holder:
            self.holder = holder
            log.info("standby: %s leads", holder, extra={"lease": f"{self._namespace}/{self._name}"})

    def _lost(self, why: str) -> NotLeader:
        self._deposed()
        return NotLeader(f"lost the lead, Lease {self._namespace}/{self._name}: {why}")

    def _deposed(self) -> None:
        self._guard.close()
        self.holder = ""
        metrics.LEADER.set(0)
