"""What to do about a TaskQueue: what was observed in, actions out. Pure; the reconciler observes and performs.

Level-triggered: each plan starts from what exists, so a pass that was interrupted at any point is completed by the next.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from stoker.manifest import TaskQueue
from stoker_operator.reconcile.quantity import QUANTITIES, same_quantity
from stoker_operator.reconcile.resources import TEMPLATE_HASH, Connection, deployment, seed
from stoker_operator.state.problem import Problem, name_taken
from stoker_operator.state.ref import FIELD_MANAGER, MANAGED_BY, Object, Owner


class Live(Struct, frozen=True):
    """An existing Deployment. `owner` is its controller's UID; `replicas` requested; `pods` that exist, `ready` and `updated`
    (of the newest version) among them. `draining`: pods that terminate, which are not in `pods`.
    """

    uid: str
    owner: str
    replicas: int
    pods: int
    ready: int
    updated: int
    manifest: Object
    draining: int = 0

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted."""
        return "deletionTimestamp" in self.manifest["metadata"]

    @property
    def generation(self) -> int:
        """The version of its spec."""
        return int(self.manifest["metadata"].get("generation", 0))

    @property
    def template(self) -> str:
        """The hash of its pod template."""
        return str((self.manifest["metadata"].get("annotations") or {}).get(TEMPLATE_HASH, ""))

    def rollout(self, since: int) -> str:
        """What is missing while not all pods are of the newest version, which the Deployment has had since that generation."""
        if (self.manifest.get("status") or {}).get("observedGeneration", since) < since:
            return "the new version has not begun to roll out"
        if self.pods > self.updated:
            return f"{self.updated} of {self.replicas} workers are of the newest version, {self.pods - self.updated} of another"
        return ""

    def belongs_to(self, owner: Owner) -> bool:
        """By UID, not name: a TaskQueue that was deleted and created again must not inherit half-deleted workers."""
        return self.owner == owner.uid

    def orphan_of(self, owner: Owner) -> bool:
        """Whether no object controls it, and it has our labels and our selector: after a restore from a backup, or a deletion with
        `--cascade=orphan`. Such a Deployment is taken back with its pods, as a ReplicaSet takes back pods."""
        labels = self.manifest["metadata"].get("labels") or {}
        made_here = labels.items() >= {MANAGED_BY: FIELD_MANAGER, **owner.ref.selector}.items()
        return not self.owner and made_here and self.manifest["spec"]["selector"] == {"matchLabels": owner.ref.selector}


class Create(Struct, frozen=True):
    """Create the Deployment."""

    manifest: Object


class Apply(Struct, frozen=True):
    """Server-side apply. An empty `uid` means the Deployment just created."""

    manifest: Object
    uid: str = ""


Action = Create | Apply


class Observed(Struct, frozen=True):
    """The input of a plan. `taken`: another TaskQueue claims the queue. `unclaimed`: Redis could not be asked for it.

    `applied`: the annotation for the spec (applied.py). `inherited`: labels of the TaskQueue for the Deployment.
    """

    queue: TaskQueue
    owner: Owner
    connection: Connection
    applied: str = ""
    live: Live | None = None
    taken: Problem | None = None
    unclaimed: Problem | None = None
    inherited: Mapping[str, str] = {}


class Plan(Struct, frozen=True):
    """The actions in order, and the problem that allows no more than these."""

    actions: tuple[Action, ...] = ()
    problem: Problem | None = None


def plan(observed: Observed) -> Plan:
    """The next steps towards what the TaskQueue asks for."""
    live, owner = observed.live, observed.owner
    if live is not None and not live.belongs_to(owner) and not live.orphan_of(owner):
        return Plan(problem=name_taken(owner.ref, live.manifest))
    if observed.taken is not None:
        return Plan(problem=observed.taken)  # workers that run already stay as they are: a newcomer's claim retires no worker
    if observed.queue.spec.suspend or (live is not None and live.deleting):
        return Plan()
    if live is None and observed.unclaimed is not None:
        return Plan(problem=observed.unclaimed)
    manifest = deployment(observed.queue, owner, observed.connection, observed.applied, observed.inherited)
    if live is None:
        return Plan((Create(seed(manifest, initial_replicas(observed.queue))), Apply(manifest)))
    return Plan((Apply(manifest, live.uid),) if drifted(live.manifest, manifest) else ())


def initial_replicas(queue: TaskQueue) -> int:
    """Replicas of a new Deployment, before the backlog is known."""
    spec = queue.spec
    return spec.replicas if spec.replicas is not None else spec.scaling.min_replicas


def live(found: Object) -> Live:
    """The parts of a Deployment that decisions need."""
    metadata, status = found["metadata"], found.get("status") or {}
    controllers = [reference["uid"] for reference in metadata.get("ownerReferences") or () if reference.get("controller")]
    return Live(
        uid=metadata["uid"],
        owner=controllers[0] if controllers else "",
        replicas=found["spec"].get("replicas", 1),
        pods=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        updated=status.get("updatedReplicas", 0),
        manifest=found,
        draining=status.get("terminatingReplicas") or 0,
    )


def drifted(found: Object, wanted: Object) -> bool:
    """Whether a field that we set differs. Fields that others added are theirs.

    The template's digest detects fields that we no longer set. Quantities, which the API server normalizes
    (`1000m` to `1`), are compared as numbers.
    """
    stamp = (found["metadata"].get("annotations") or {}).get(TEMPLATE_HASH)
    return stamp != wanted["metadata"]["annotations"][TEMPLATE_HASH] or not _holds(found, wanted)


def _holds(found: Any, wanted: Any, quantity: bool = False) -> bool:
    if isinstance(wanted, Mapping):
        of = found if isinstance(found, Mapping) else {}
        return all(_holds(of.get(key), value, quantity or key in QUANTITIES) for key, value in wanted.items())
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], Mapping):
        return all(_holds(_counterpart(found, item, at), item) for at, item in enumerate(wanted))
    if quantity:
        return same_quantity(found, wanted)
    return bool(found == wanted) or (not found and not wanted)  # the API server leaves out what is false or empty


def _counterpart(found: Any, item: Mapping[str, Any], at: int) -> Any:
    if not isinstance(found, list):
        return None
    if "name" in item:
        return next((other for other in found if other.get("name") == item["name"]), None)
    return found[at] if at < len(found) else None
