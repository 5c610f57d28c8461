"""One TaskQueue as the operator knows it. Three loops write here, each through its own method; every value is immutable.

The loops overlap: the autoscaler may scale, and the reporter may write the status, while a reconcile is between its GET and
its end. So each observation comes with the moment it began, and does not overwrite what was written after that moment.
"""

import asyncio
from typing import Any

from msgspec.structs import replace

from stoker.autoscale.decide import Decision
from stoker.autoscale.scaling_record import ScalingRecord
from stoker_operator.state.contest import Contest
from stoker_operator.state.findings import Findings, Reading, ScaleChange, Scaling, Snapshot
from stoker_operator.state.problem import Problem, replicas_contested
from stoker_operator.state.ref import Ref

TOLERATED = 2
"""Changes of the replicas by others within a minute, such as `kubectl scale deployment`, which the autoscaler corrects."""


class ManagedQueue:
    """Belongs to one event loop. Moments are monotonic seconds. `writing` serializes writes of the status.
    `refusal`: why another installation serves it, once that was announced. `version`: the resourceVersion that has this `status`.
    """

    def __init__(self, ref: Ref, findings: Findings, status: dict[str, Any], version: str = "") -> None:
        self.ref = ref
        self.findings = findings
        self.reading = Reading()
        self.scaling: Scaling | None = None
        self.recorded: ScalingRecord | None = None
        self.recorded_at = float("-inf")
        self.status, self.version = status, version
        self.status_written_at = float("-inf")
        self.writing = asyncio.Lock()
        self.refusal: Problem | None = None
        self._scaled_at = float("-inf")
        self._scaling_contest = Contest()
        self._scaled_by = ""
        self._starting_since: float | None = None

    def observed(self, findings: Findings, status: dict[str, Any], began: float, version: str = "") -> None:
        """The reconciler looked at the cluster, from `began` on."""
        if self._scaled_at > began and findings.workers and self.findings.workers:
            workers = replace(findings.workers, replicas=self.findings.workers.replicas)
            findings = replace(findings, workers=workers)
        self._notice_scalers(findings, began)
        if self.status_written_at < began:
            self.status, self.version = status, version
        self.findings = findings

    def _notice_scalers(self, findings: Findings, now: float) -> None:
        before, after = self.findings.workers, findings.workers
        if findings.generation != self.findings.generation:
            self._scaling_contest = Contest()
        if before and after and before.uid == after.uid and before.replicas != after.replicas and after.scaled_by:
            self._scaling_contest = self._scaling_contest.changed(now, TOLERATED)
            self._scaled_by = after.scaled_by

    def rescaled(self, now: float) -> Problem | None:
        """Who else scales the workers. The operator does not, until they have left the number alone for some minutes."""
        return replicas_contested(self.ref, self._scaled_by) if self._scaling_contest.left(now) else None

    def read(self, reading: Reading) -> None:
        """The autoscaler read the queue in Redis, or could not."""
        self.reading = reading

    def decided(self, decision: Decision) -> None:
        """The autoscaler leaves the number of replicas as it is."""
        self.scaling = self._thought(decision)

    def scaled(self, decision: Decision, before: int, timestamp: str, now: float) -> None:
        """The API server took the decided number. It counts at once: the next decision does not wait for the watch."""
        workers = self.findings.workers
        change = ScaleChange(timestamp, before, decision.replicas, decision.reason)
        self.scaling = replace(self._thought(decision), change=change)
        self._scaled_at = now
        if workers:
            self.findings = replace(self.findings, workers=replace(workers, replicas=decision.replicas))

    def record(self, record: ScalingRecord, now: float) -> None:
        """The autoscaler records a decision in Redis."""
        self.recorded, self.recorded_at = record, now

    def scale_refused(self, decision: Decision, problem: Problem) -> None:
        """The API server rejected the decided number."""
        self.scaling = replace(self._thought(decision), refused=problem)

    def status_written(self, status: dict[str, Any], version: str, now: float) -> None:
        """The reporter wrote the status."""
        self.status, self.version, self.status_written_at = status, version, now

    @property
    def snapshot(self) -> Snapshot:
        """All of it at this moment, but for what depends on the time."""
        return Snapshot(self.findings, self.reading, self.scaling)

    def snapshot_at(self, now: float) -> Snapshot:
        """All of it at this moment."""
        workers = self.findings.workers
        snapshot = self.snapshot._replace(rescaled=self.rescaled(now))
        if workers is None or workers.replicas == 0 or workers.ready > 0:
            self._starting_since = None
            return snapshot
        self._starting_since = now if self._starting_since is None else self._starting_since
        return snapshot._replace(starting_for=now - self._starting_since)

    def _thought(self, decision: Decision) -> Scaling:
        last = self.scaling.change if self.scaling else None
        return Scaling(decision.replicas, decision.reason, decision.memory, last)
