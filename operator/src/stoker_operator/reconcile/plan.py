"""What to do about a TaskQueue: what was observed in, actions out. Pure; the reconciler observes and performs.

Level-triggered: each plan starts from what exists, so a pass that was interrupted at any point is completed by the next.
"""

from collections.abc import Mapping

from msgspec import Struct

from stoker.manifest.task_queue import TaskQueue
from stoker_operator.reconcile.drift import REPLICAS, drifted, setters
from stoker_operator.reconcile.ownership import handed_over
from stoker_operator.reconcile.resources import INSTALLATION, PAUSED_ROLLOUT, TEMPLATE_HASH, Connection, created, deployment, paused
from stoker_operator.reconcile.rollout import held
from stoker_operator.state.findings import Trial
from stoker_operator.state.problem import Problem, name_taken
from stoker_operator.state.ref import FIELD_MANAGER, MANAGED_BY, ORPHAN_OF, Object, Owner


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
    def version(self) -> str:
        """Its resourceVersion: any write changes it."""
        return str(self.manifest["metadata"]["resourceVersion"])

    @property
    def generation(self) -> int:
        """The version of its spec."""
        return int(self.manifest["metadata"].get("generation", 0))

    @property
    def template(self) -> str:
        """The hash of its pod template."""
        return str((self.manifest["metadata"].get("annotations") or {}).get(TEMPLATE_HASH, ""))

    @property
    def installation(self) -> str:
        """The installation of the operator that serves it; empty if an older version made it."""
        return str((self.manifest["metadata"].get("annotations") or {}).get(INSTALLATION, ""))

    @property
    def scaled_by(self) -> str:
        """Who set its replicas; empty for the operator itself."""
        return ", ".join(setters(self.manifest, REPLICAS))

    @property
    def old_pods(self) -> int:
        """Pods of other versions than the newest."""
        return max(0, self.pods - self.updated)

    @property
    def paused(self) -> bool:
        """Whether the operator has paused the rollout of this template."""
        annotations = self.manifest["metadata"].get("annotations") or {}
        return self.manifest["spec"].get("paused") is True and annotations.get(PAUSED_ROLLOUT) == self.template

    def rollout(self, since: int) -> str:
        """What is missing while not all pods are of the newest version, which the Deployment has had since that generation."""
        if (self.manifest.get("status") or {}).get("observedGeneration", since) < since:
            return "the new version has not begun to roll out"
        if self.pods > self.updated:
            return f"{self.updated} of {self.replicas} workers are of the newest version, {self.pods - self.updated} of another"
        return ""

    def belongs_to(self, owner: Owner) -> bool:
        """By UID, not name: a TaskQueue that was deleted and created again must not inherit half-deleted workers.

        Without an owner reference, where the policy is Orphan, by the annotation.
        """
        annotated = (self.manifest["metadata"].get("annotations") or {}).get(ORPHAN_OF)
        return owner.uid == (self.owner or annotated)

    def served_by_other(self, owner: Owner, installation: str) -> str:
        """The other installation of the operator that serves these workers. Empty if none does, or nothing was served yet."""
        return self.installation if self.belongs_to(owner) and self.installation != installation else ""

    def orphan_of(self, owner: Owner) -> bool:
        """Whether no object controls it, and it has our labels and our selector: after a restore from a backup, or a deletion with
        `--cascade=orphan`. Such a Deployment is taken back with its pods, as a ReplicaSet takes back pods."""
        labels = self.manifest["metadata"].get("labels") or {}
        made_here = labels.items() >= {MANAGED_BY: FIELD_MANAGER, **owner.ref.selector}.items()
        return not self.owner and made_here and self.manifest["spec"]["selector"] == {"matchLabels": owner.ref.selector}


class Create(Struct, frozen=True):
    """Create the Deployment."""

    manifest: Object


class HandOver(Struct, frozen=True):
    """Hand the fields that the creation owns to the apply."""


class Apply(Struct, frozen=True):
    """Server-side apply on the Deployment with this UID."""

    manifest: Object
    uid: str


Action = Create | HandOver | Apply


class Observed(Struct, frozen=True):
    """The input of a plan. `taken`: another TaskQueue claims the queue. `unclaimed`: Redis could not be asked for it.

    `applied`: the annotation for the spec (applied.py). `installation`: this operator's. `inherited`: labels of the TaskQueue for
    the Deployment. `trial`: how the pods of the newest version fare; `may_pause`: a rollout whose pods fail may be paused.
    """

    queue: TaskQueue
    owner: Owner
    connection: Connection
    applied: str = ""
    live: Live | None = None
    taken: Problem | None = None
    unclaimed: Problem | None = None
    installation: str = ""
    inherited: Mapping[str, str] = {}
    trial: Trial = Trial()
    may_pause: bool = True


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
    manifest = deployment(
        observed.queue,
        owner,
        observed.connection,
        applied=observed.applied,
        installation=observed.installation,
        inherited=observed.inherited,
    )
    if live is None:
        return Plan((Create(created(manifest, initial_replicas(observed.queue))), HandOver()))
    if live.template == manifest["metadata"]["annotations"][TEMPLATE_HASH] and observed.may_pause:
        manifest = paused(manifest) if held(observed.trial, old_pods=live.old_pods, paused=live.paused) else manifest
    if handed_over(live.manifest) is not None:  # and an apply, which removes what the creation alone kept
        return Plan((HandOver(), Apply(manifest, live.uid)))
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
