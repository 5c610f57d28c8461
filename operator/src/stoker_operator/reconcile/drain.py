"""What becomes of a TaskQueue that is deleted: whether a finalizer keeps it, and when it may go. Pure.

Drain ends with the workers' running tasks: those that wait stay in Redis (docs/decisions/0026-drain-finishes-what-runs.md).
"""

from datetime import UTC, datetime
from math import ceil

from msgspec import Struct

from stoker.rules.units import parse_duration
from stoker_operator.reconcile.resources import GRACE_MARGIN
from stoker_operator.state.ref import FINALIZER, SKIP_DRAIN, Object

SLACK = 30
"""Seconds beyond the longest grace period of a pod: to scale to 0, and to see that the pods are gone."""
ORPHAN_FINALIZER = "orphan"
"""Set by the API server for `kubectl delete --cascade=orphan`."""
_DEFAULT_DRAIN = 660.0


class Deletion(Struct, frozen=True):
    """What a TaskQueue says about its deletion, of its raw object: its spec may be invalid.

    `seconds` since it was deleted, None if it was not. `orphaned`: by `--cascade=orphan`. `limit`: the longest drain, in seconds.
    """

    policy: str
    held: bool
    seconds: float | None
    skipped: bool
    orphaned: bool
    limit: float

    def cause(self) -> str:
        """Why it need not be kept, whatever its workers do. Empty if it is."""
        if self.policy != "Drain":
            return f"spec.deletionPolicy is {self.policy}"
        if self.skipped:
            return f"annotation {SKIP_DRAIN} is true"
        return "--cascade=orphan" if self.orphaned else ""

    @property
    def overdue(self) -> bool:
        """Whether it has been kept for as long as it may be."""
        return self.seconds is not None and self.seconds >= self.limit


def deletion(task_queue: Object, now: datetime, since: float = 0.0) -> Deletion:
    """`since`: seconds that this process has known of the deletion, since the API server's clock may be behind."""
    metadata, spec = task_queue["metadata"], task_queue.get("spec") or {}
    finalizers = metadata.get("finalizers") or ()
    deleted = metadata.get("deletionTimestamp")
    return Deletion(
        policy=spec.get("deletionPolicy", "Drain"),
        held=FINALIZER in finalizers,
        seconds=max(since, (now - datetime.fromisoformat(deleted)).total_seconds()) if deleted else None,
        skipped=(metadata.get("annotations") or {}).get(SKIP_DRAIN) == "true",
        orphaned=ORPHAN_FINALIZER in finalizers,
        limit=_limit(spec),
    )


def drained(replicas: int | None, pods: int) -> bool:
    """Whether no worker is left. `replicas`: what their Deployment asks for, None if there is none that is not being deleted."""
    return replicas is None or (replicas == 0 and pods == 0)


def utc_now() -> datetime:
    """Now."""
    return datetime.now(UTC)


def _limit(spec: Object) -> float:
    try:
        drain = float(parse_duration((spec.get("worker") or {})["drainTimeout"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        drain = _DEFAULT_DRAIN
    return ceil(drain) + GRACE_MARGIN + SLACK
