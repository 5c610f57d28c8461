"""All TaskQueues that the operator manages, by name."""

from collections.abc import Collection, Mapping
from typing import Any

from stoker_operator.state.findings import Findings
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.ref import Ref


class QueueStore:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._queues: dict[Ref, ManagedQueue] = {}
        self.orphaned: set[Ref] = set()
        """Deleted ones whose workers, and so their schedules, go on."""

    def get(self, ref: Ref) -> ManagedQueue | None:
        """The TaskQueue of that name, if it has been reconciled."""
        return self._queues.get(ref)

    def all(self) -> Collection[ManagedQueue]:
        """Every TaskQueue."""
        return self._queues.values()

    def refs(self) -> Collection[Ref]:
        """The names of all."""
        return self._queues.keys()

    def observed(self, ref: Ref, findings: Findings, status: dict[str, Any], began: float, version: str = "") -> ManagedQueue:
        """Store what a reconcile found that began at `began`. One with another UID is another TaskQueue, and starts clean."""
        known = self._queues.get(ref)
        self.orphaned.discard(ref)
        if known is None or known.findings.uid != findings.uid:
            known = self._queues[ref] = ManagedQueue(ref, findings, status, version)
        else:
            known.observed(findings, status, began, version)
        return known

    def forget(self, ref: Ref) -> None:
        """The TaskQueue is gone."""
        gone = self._queues.pop(ref, None)
        if gone is not None and gone.findings.manifest is not None and gone.findings.manifest.spec.deletion_policy == "Orphan":
            self.orphaned.add(ref)

    def by_redis(self) -> Mapping[str, list[ManagedQueue]]:
        """Those whose queues are to be read, by the URL of their Redis."""
        groups: dict[str, list[ManagedQueue]] = {}
        for queue in self._queues.values():
            if (source := queue.findings.source) is not None:
                groups.setdefault(source.url, []).append(queue)
        return groups
