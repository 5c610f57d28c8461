"""The objects beside the Deployment that a TaskQueue asks for, and what to do about each: as found in, an action out. Pure."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from stoker.manifest.task_queue import TaskQueue
from stoker_operator.reconcile.drift import differences
from stoker_operator.reconcile.resources import owned_metadata
from stoker_operator.state.problem import Problem, child_name_taken
from stoker_operator.state.ref import FIELD_MANAGER, MANAGED_BY, Object, Owner, Resource

BUDGETS = Resource("/apis/policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
POD_MONITORS = Resource("/apis/monitoring.coreos.com/v1", "podmonitors", "PodMonitor")
MAX_UNAVAILABLE = "25%"
"""Of the workers, rounded up: the last one can always be evicted, so that no node waits for it."""


class Child(Struct, frozen=True):
    """An object as it should be, and whether it should be at all."""

    resource: Resource
    manifest: Object
    wanted: bool

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.manifest["metadata"]["name"])


class CreateChild(Struct, frozen=True):
    """Create it."""

    manifest: Object


class ApplyChild(Struct, frozen=True):
    """Server-side apply on the object with this UID."""

    manifest: Object
    uid: str


class DeleteChild(Struct, frozen=True):
    """Delete the object with this UID."""

    uid: str


ChildAction = CreateChild | ApplyChild | DeleteChild


def children(queue: TaskQueue, owner: Owner, inherited: Mapping[str, str]) -> tuple[Child, ...]:
    """All kinds of them, wanted or not."""
    spec = queue.spec
    most = spec.scaling.max_replicas if spec.replicas is None else spec.replicas
    # One worker is protected by its drain alone: a budget for it would help nobody, or block the node for good.
    budget = spec.disruption.pod_disruption_budget == "Auto" and most > 1
    monitor = spec.observability.pod_monitor == "Enabled"
    return (
        Child(BUDGETS, _manifest(BUDGETS, owner, inherited, _budget(owner)), budget),
        Child(POD_MONITORS, _manifest(POD_MONITORS, owner, inherited, _monitor(owner)), monitor),
    )


def plan_child(child: Child, found: Object | None, owner: Owner) -> ChildAction | Problem | None:
    """The next step towards what is wanted. An object of another owner is left alone: a problem if its name is needed."""
    if found is None:
        return CreateChild(child.manifest) if child.wanted else None
    if not _ours(found, owner):
        return child_name_taken(child.resource.kind, child.name) if child.wanted else None
    if "deletionTimestamp" in found["metadata"]:
        return None
    uid = str(found["metadata"]["uid"])
    if not child.wanted:
        return DeleteChild(uid)
    return ApplyChild(child.manifest, uid) if _drifted(found, child.manifest) else None


def _ours(found: Object, owner: Owner) -> bool:
    """Whether this TaskQueue controls it; or no object does, and it has our labels, as after a restore from a backup."""
    controllers = [each.get("uid") for each in found["metadata"].get("ownerReferences") or () if each.get("controller")]
    labels = found["metadata"].get("labels") or {}
    made_here = labels.items() >= {MANAGED_BY: FIELD_MANAGER, **owner.ref.selector}.items()
    return owner.uid in controllers or (not controllers and made_here)


def _drifted(found: Object, wanted: Object) -> bool:
    metadata = {name: wanted["metadata"][name] for name in ("labels", "ownerReferences")}
    return next(differences(found, {"metadata": metadata, "spec": wanted["spec"]}), None) is not None


def _manifest(resource: Resource, owner: Owner, inherited: Mapping[str, str], spec: Any) -> Object:
    api_version = resource.api.removeprefix("/apis/")
    return {"apiVersion": api_version, "kind": resource.kind, "metadata": owned_metadata(owner, inherited), "spec": spec}


def _budget(owner: Owner) -> Object:
    return {
        "maxUnavailable": MAX_UNAVAILABLE,
        "selector": {"matchLabels": owner.ref.selector},
        # A worker that is not ready fails, or leaves: it must not keep its node.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def _monitor(owner: Owner) -> Object:
    """As the chart's for all workers."""
    dropped = [{"action": "labeldrop", "regex": "exported_namespace"}]
    endpoint = {"port": "http", "path": "/metrics", "metricRelabelings": dropped}
    selector = {"matchLabels": owner.ref.selector}
    return {"jobLabel": "app.kubernetes.io/name", "selector": selector, "podMetricsEndpoints": [endpoint]}
