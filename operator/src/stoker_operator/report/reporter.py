"""Writes the status of a TaskQueue, and an Event for each transition."""

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from stoker.errors import NotFound, StokerError
from stoker.manifest.task_queue import GROUP, KIND, VERSION
from stoker.rules.printable import printable
from stoker_operator.kube import Kube, KubernetesConflict
from stoker_operator.report.conditions import Notice, conditions, notices
from stoker_operator.report.status import refusal, status, worth_writing
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.problem import Problem, Reason
from stoker_operator.state.ref import FIELD_MANAGER, Object, Ref

log = logging.getLogger(__name__)
ATTEMPTS = 2
"""To write the status of a TaskQueue that has changed meanwhile."""
MAX_NOTE = 1000  # the API rejects more than 1024


class Reporter:
    """`identity` is the reportingInstance of its Events."""

    def __init__(self, kube: Kube, identity: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._identity = identity
        self._monotonic = monotonic

    async def report(self, queue: ManagedQueue) -> None:
        """Write the status if it is worth a write now, then announce what changed."""
        problem = queue.findings.problem
        if problem is not None and problem.reason is Reason.SERVED_ELSEWHERE:
            await self._refuse(queue, problem)
            return
        queue.refusal = None
        async with queue.writing:
            for _ in range(ATTEMPTS):
                if (transitions := await self._write(queue)) is not None:
                    break
        for notice in transitions or ():
            await self.announce(queue.ref, queue.findings.uid, notice)

    async def _write(self, queue: ManagedQueue) -> list[Notice] | None:
        """Returns what has changed. None if the TaskQueue has changed meanwhile."""
        now = self._monotonic()
        known = queue.snapshot_at(now)
        if queue.status.get("conditions") and not known.settled:
            return []  # after a restart: what was written before it stands until as much is known again
        current = conditions(known)
        before = queue.status
        new = status(queue.ref, known, current, before, timestamp())
        if not worth_writing(new, before, now - queue.status_written_at):
            return []
        if not await self._stored(queue, new, now):
            return None
        return notices(current, before.get("conditions") or ())

    async def _stored(self, queue: ManagedQueue, new: Object, now: float) -> bool:
        """Whether the status was written. If not, because the TaskQueue has changed, what it is now is known from now on."""
        uid = queue.findings.uid
        try:
            written = await self._kube.write_status(queue.ref, uid, queue.version, new)
        except NotFound:
            return False
        except KubernetesConflict:
            with contextlib.suppress(NotFound):
                found = await self._kube.task_queue(queue.ref)
                if found["metadata"]["uid"] == uid:  # created again: the watch tells the reconciler
                    queue.status, queue.version = found.get("status") or {}, found["metadata"]["resourceVersion"]
            return False
        queue.status_written(new, written["metadata"]["resourceVersion"], now)
        return True

    async def _refuse(self, queue: ManagedQueue, problem: Problem) -> None:
        """Add one condition to the status of the installation that serves the TaskQueue. Its next write removes it."""
        async with queue.writing:
            new = refusal(problem, queue.status, queue.findings.generation, timestamp())
            if new != queue.status and not await self._stored(queue, new, self._monotonic()):
                return
        if queue.refusal != problem:
            queue.refusal = problem
            await self.announce(queue.ref, queue.findings.uid, Notice("Warning", problem.reason, problem.message))

    async def announce(self, ref: Ref, uid: str, notice: Notice) -> None:
        """Create an Event about the TaskQueue with this UID. If the API server refuses it, log that and go on."""
        log.info(notice.message, extra={"taskqueue": str(ref), "reason": str(notice.reason)})
        try:
            await self._kube.create_event(ref.namespace, event(ref, uid, notice, self._identity))
        except StokerError as error:
            log.warning("cannot create an Event: %s", error, extra={"taskqueue": str(ref)})


def event(ref: Ref, uid: str, notice: Notice, identity: str) -> Object:
    """An events.k8s.io/v1 Event."""
    now = datetime.now(UTC)
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{ref.name}-", "namespace": ref.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{GROUP}/{FIELD_MANAGER}",
        "reportingInstance": identity,
        "type": notice.kind,
        "reason": str(notice.reason),
        "action": "Scale" if notice.reason.startswith("Scaled") else "Reconcile",
        "note": printable(notice.message, "\n")[:MAX_NOTE],
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": ref.name,
            "namespace": ref.namespace,
            "uid": uid,
        },
    }


def timestamp() -> str:
    """Now, as RFC 3339 in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
