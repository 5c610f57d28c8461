"""What to do about a TaskQueue: what was observed in, actions out. Pure; `reconcile` observes and performs.

Every pass starts from what is there, so a pass that was cut short anywhere is simply finished by the next.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from stoker.manifest import TaskQueue
from stoker_operator.resources import TEMPLATE_HASH, Connection, Object, Owner, Ref, deployment, seed


class Halt(Struct, frozen=True):
    """Why a TaskQueue is not served: a stable reason for programs, a sentence for people that says what to do."""

    reason: str
    message: str


class Live(Struct, frozen=True):
    """A Deployment as it was found. `owner` is its controller's UID; `replicas` asked for, `pods` there, `ready` of them."""

    uid: str
    owner: str
    replicas: int
    pods: int
    ready: int
    manifest: Object

    def belongs_to(self, owner: Owner) -> bool:
        """UIDs, not names: a TaskQueue that was deleted and made again must not inherit half-deleted workers."""
        return self.owner == owner.uid


class Create(Struct, frozen=True):
    """Make a Deployment that is not there."""

    manifest: Object


class Apply(Struct, frozen=True):
    """Bring the Deployment to what the manifest says. No `uid`: the one just created."""

    manifest: Object
    uid: str = ""


class Scale(Struct, frozen=True):
    """Ask for so many workers."""

    uid: str
    replicas: int


Action = Create | Apply | Scale


class Observed(Struct, frozen=True):
    """All that a decision needs. `holder` is the TaskQueue that serves this queue instead, if any."""

    queue: TaskQueue
    owner: Owner
    connection: Connection
    namespace: str
    live: Live | None = None
    holder: Ref | None = None
    deleting: bool = False


class Plan(Struct, frozen=True):
    """The actions in order, and why there are not more of them."""

    actions: tuple[Action, ...] = ()
    halt: Halt | None = None


def plan(observed: Observed) -> Plan:
    """The next steps towards what the TaskQueue asks for."""
    live, owner = observed.live, observed.owner
    if observed.deleting:
        # The garbage collector takes the workers; making them anew would keep the owner from going.
        return Plan(halt=Halt("Deleting", "the TaskQueue is being deleted"))
    if live is not None and not live.belongs_to(owner):
        return Plan(halt=name_taken(owner.ref))
    if observed.holder is not None:
        retire = live is not None and live.replicas > 0
        return Plan((Scale(live.uid, 0),) if live and retire else (), queue_taken(observed.queue, observed.holder))
    if observed.queue.spec.suspend:
        return Plan()
    manifest = deployment(observed.queue, owner, observed.connection, observed.namespace)
    if live is None:
        return Plan((Create(seed(manifest, initial_replicas(observed.queue))), Apply(manifest)))
    return Plan((Apply(manifest, live.uid),) if drifted(live.manifest, manifest) else ())


def initial_replicas(queue: TaskQueue) -> int:
    """How many workers a new queue starts with, before anything is known about its backlog."""
    spec = queue.spec
    return spec.replicas if spec.replicas is not None else spec.scaling.min_replicas


def name_taken(ref: Ref) -> Halt:
    """A stranger's Deployment stands where ours should."""
    return Halt(
        "NameTaken",
        f"Deployment {ref.deployment} exists and does not belong to this TaskQueue: delete it, or give the TaskQueue another name",
    )


def queue_taken(queue: TaskQueue, holder: Ref) -> Halt:
    """Two TaskQueues for one queue would scale and configure its workers against each other."""
    return Halt(
        "QueueTaken",
        f"queue {queue.queue!r} in this Redis is served by the older TaskQueue {holder}: "
        "give this one another queue or another Redis",
    )


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
        manifest=found,
    )


def drifted(found: Object, wanted: Object) -> bool:
    """Whether something that we set is otherwise. What others have added is theirs.

    The template's digest finds what we no longer set. A value that the API server writes in another way
    (`1000m` for `1`) only costs an apply that changes nothing.
    """
    stamp = (found["metadata"].get("annotations") or {}).get(TEMPLATE_HASH)
    return stamp != wanted["metadata"]["annotations"][TEMPLATE_HASH] or not _holds(found, wanted)


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return all(_holds(found.get(key) if isinstance(found, Mapping) else None, value) for key, value in wanted.items())
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], Mapping):
        return all(_holds(_partner(found, item, at), item) for at, item in enumerate(wanted))
    return bool(found == wanted) or (not found and not wanted)  # the API server leaves out what is false or empty


def _partner(found: Any, item: Mapping[str, Any], at: int) -> Any:
    if not isinstance(found, list):
        return None
    if "name" in item:
        return next((other for other in found if other.get("name") == item["name"]), None)
    return found[at] if at < len(found) else None
