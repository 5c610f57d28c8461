"""Keeps a deleted TaskQueue until its workers have finished, if its policy is Drain: by a finalizer, for a limited time.

Every way out is open without Redis, and without more rights than to patch the TaskQueue: a drain that cannot be seen to end ends
by its limit (drain.py). The workers finish all the same: their pods have a grace period.
"""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from stoker.errors import NotFound
from stoker_operator.kube import Kube, KubernetesForbidden, KubernetesRefused
from stoker_operator.reconcile.drain import Deletion, deletion, drained, utc_now
from stoker_operator.reconcile.plan import Live
from stoker_operator.report.conditions import Notice
from stoker_operator.report.reporter import Reporter
from stoker_operator.state.findings import Findings
from stoker_operator.state.problem import (
    NOT_SERVED,
    Problem,
    Reason,
    deleting,
    finalizer_refused,
    request_refused,
    right_missing,
)
from stoker_operator.state.ref import FINALIZER, Object, Ref

log = logging.getLogger(__name__)


class Holdable(Protocol):
    """Namespaces (namespaces.py)."""

    def may_hold(self, namespace: str) -> bool:
        """Whether a finalizer there would be taken away in time."""

    def ends(self, namespace: str) -> bool:
        """Whether it is being deleted, or the operator's is."""


class Deletions:
    """Belongs to one event loop."""

    def __init__(
        self, kube: Kube, reporter: Reporter, namespaces: Holdable, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._reporter = reporter
        self._namespaces = namespaces
        self._monotonic = monotonic
        self._since: dict[Ref, tuple[str, float]] = {}  # the UID of a deleted one, and when this process saw that

    async def hold(self, ref: Ref, found: Object, findings: Findings) -> Findings:
        """Give a TaskQueue with workers the finalizer, or take it away, as its policy says. Raises KubernetesConflict and
        KubernetesUnavailable."""
        asked = deletion(found, utc_now())
        foreign = findings.problem is not None and findings.problem.reason in NOT_SERVED
        if asked.seconds is not None or foreign:
            return findings
        wanted = not asked.cause() and not self._namespaces.ends(ref.namespace)
        if wanted == asked.held or (wanted and (findings.workers is None or not self._namespaces.may_hold(ref.namespace))):
            return findings
        try:
            await self._set(ref, found, hold=wanted)
        except NotFound:
            return findings  # deleted meanwhile: the watch says so
        except KubernetesRefused as error:
            problem = right_missing(error) if isinstance(error, KubernetesForbidden) else request_refused(error)
            # What was applied goes on.
            return replace(findings, problem=problem, last_good=findings.generation) if findings.problem is None else findings
        return findings

    async def end(self, ref: Ref, found: Object) -> Problem | None:
        """Let a deleted TaskQueue go that needs no drain, or had its time. None if that depends on its workers.

        Raises what Kube raises but refusals.
        """
        asked = self._asked(ref, found)
        if asked.seconds is None or not asked.held:
            return None
        cause = asked.cause() or (
            "its namespace, or the operator's, is being deleted" if self._namespaces.ends(ref.namespace) else ""
        )
        if asked.policy == "Orphan" and not asked.overdue:
            await self._disown(ref, found["metadata"]["uid"])
        if not cause and not asked.overdue:
            return None
        return await self._let_go(ref, found, cause or f"not drained within {asked.limit:g}s", timed_out=not cause)

    async def drain(self, ref: Ref, found: Object, present: Live | None) -> Problem:
        """Scale the workers of a deleted TaskQueue to 0, and let it go once they have ended. Raises what Kube raises."""
        asked = self._asked(ref, found)
        if not asked.held:
            return deleting()
        uid = found["metadata"]["uid"]
        mine = present if present is not None and present.owner == uid and not present.deleting else None
        if mine is None:
            return await self._let_go(ref, found, "it has no workers")
        if mine.replicas:
            try:
                await self._kube.scale_deployment(ref, mine.uid, mine.replicas, 0)
            except KubernetesRefused as error:  # the garbage collector ends the pods as gracefully
                return await self._let_go(ref, found, f"its workers cannot be scaled: {error}")
            log.info("draining", extra={"taskqueue": str(ref), "workers": mine.replicas})
        left = await self._pods(ref, mine)
        if drained(0, left):
            return await self._let_go(ref, found, "its workers have finished")
        return deleting(left, asked.limit)

    def draining(self, ref: Ref) -> bool:
        """Whether a deleted TaskQueue is still there."""
        return ref in self._since

    def forget(self, ref: Ref) -> None:
        """The TaskQueue is gone."""
        self._since.pop(ref, None)

    def _asked(self, ref: Ref, found: Object) -> Deletion:
        uid, now = found["metadata"]["uid"], self._monotonic()
        if "deletionTimestamp" not in found["metadata"]:
            return deletion(found, utc_now())
        if self._since.get(ref, ("", 0.0))[0] != uid:
            self._since[ref] = (uid, now)
        return deletion(found, utc_now(), now - self._since[ref][1])

    async def _pods(self, ref: Ref, present: Live) -> int:
        """Worker pods that have not ended."""
        try:
            pods = await self._kube.pods(ref)
        except KubernetesRefused:  # then by what the Deployment counts
            return present.pods + present.draining
        return sum((pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"} for pod in pods)

    async def _let_go(self, ref: Ref, found: Object, cause: str, *, timed_out: bool = False) -> Problem:
        try:
            await self._set(ref, found, hold=False)
        except NotFound:
            pass
        except KubernetesRefused as error:
            return finalizer_refused(ref, error)
        log.info("let a deleted TaskQueue go: %s", cause, extra={"taskqueue": str(ref)})
        if timed_out:
            notice = Notice("Warning", Reason.DRAIN_TIMED_OUT, f"{cause}: what still runs has the rest of its pod's grace period")
            await self._reporter.announce(ref, found["metadata"]["uid"], notice)
        return deleting()

    async def _set(self, ref: Ref, found: Object, *, hold: bool) -> None:
        before = found["metadata"].get("finalizers") or []
        after = [*before, FINALIZER] if hold else [each for each in before if each != FINALIZER]
        await self._kube.set_finalizers(ref, found["metadata"]["uid"], before, after)

    async def _disown(self, ref: Ref, uid: str) -> None:
        """The policy became Orphan after the last pass, or after the deletion: take the owner reference away first."""
        try:
            metadata = (await self._kube.deployment(ref))["metadata"]
            owners = metadata.get("ownerReferences") or []
            if any(each["uid"] == uid for each in owners):
                await self._kube.set_owners(ref, metadata["uid"], owners, [each for each in owners if each["uid"] != uid])
        except NotFound:
            return
        except KubernetesRefused as error:
            log.warning("cannot orphan the workers: %s", error, extra={"taskqueue": str(ref)})
