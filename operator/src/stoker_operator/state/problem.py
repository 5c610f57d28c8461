"""Reasons and problems: every `reason` of a condition or Event, and the message of each problem.

Reasons are an API: scripts and alerts match them. Add members; do not rename them.
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from stoker.manifest.task_queue import GROUP, KIND
from stoker.rules.identity import Holder, QueueId
from stoker.rules.units import format_duration
from stoker_operator.state.ref import FINALIZER, PAUSE_ROLLOUTS, SKIP_DRAIN, Object, Ref


class Reason(StrEnum):
    """The `reason` of a condition or an Event, in PascalCase."""

    # The workers (condition Ready)
    WORKERS_READY = "WorkersReady"
    WORKERS_NOT_READY = "WorkersNotReady"
    WORKERS_MISSING = "WorkersMissing"
    WORKERS_FAILING = "WorkersFailing"
    WORKERS_REFUSED = "WorkersRefused"
    SCALED_TO_ZERO = "ScaledToZero"
    NO_WORKERS = "NoWorkers"
    WORKERS_STARTING = "WorkersStarting"
    WORKERS_TERMINATING = "WorkersTerminating"
    ROLLING_OUT = "RollingOut"
    ROLLOUT_PAUSED = "RolloutPaused"

    # The TaskQueue: what keeps it from being served (Ready, Stalled, Suspended)
    INVALID_SPEC = "InvalidSpec"
    SECRET_MISSING = "SecretMissing"  # noqa: S105  a reason
    CREDENTIALS_REFUSED = "CredentialsRefused"
    CREDENTIALS_MISMATCH = "CredentialsMismatch"
    RIGHT_MISSING = "RightMissing"
    REQUEST_REFUSED = "RequestRefused"
    NAME_TAKEN = "NameTaken"
    QUEUE_TAKEN = "QueueTaken"
    DELETING = "Deleting"
    SUSPENDED = "Suspended"

    # Redis (RedisReachable)
    CONNECTED = "Connected"
    INVALID_REDIS_URL = "InvalidRedisUrl"
    REDIS_NOT_ALLOWED = "RedisNotAllowed"
    REDIS_UNREACHABLE = "RedisUnreachable"
    REDIS_REFUSED = "RedisRefused"
    REDIS_UNREADABLE = "RedisUnreadable"

    # Others that change what the operator sets (Contested)
    SERVED_ELSEWHERE = "ServedElsewhere"
    SPEC_CONTESTED = "SpecContested"
    REPLICAS_CONTESTED = "ReplicasContested"

    # The autoscaler (ScalingActive); the first three are those of stoker.autoscale
    DEMAND_UNKNOWN = "DemandUnknown"
    FIXED_REPLICAS = "FixedReplicas"
    PAUSED = "Paused"
    SCALING = "Scaling"
    SCALE_REFUSED = "ScaleRefused"

    # Tasks that no worker knows (Unclaimed)
    UNKNOWN_TASKS = "UnknownTasks"

    # Tasks in the Redis that the TaskQueue has left (TasksLeftBehind)
    TASKS_LEFT_BEHIND = "TasksLeftBehind"
    FORMER_REDIS_UNREADABLE = "FormerRedisUnreadable"

    # An object beside the Deployment is not as the spec asks (Incomplete)
    KIND_MISSING = "KindMissing"
    CHILD_REFUSED = "ChildRefused"

    # Nothing is known yet (RedisReachable, ScalingActive)
    INITIALIZING = "Initializing"

    # Events only
    READY = "Ready"
    REDIS_RECOVERED = "RedisRecovered"
    DRAIN_TIMED_OUT = "DrainTimedOut"
    SCALED_UP = "ScaledUp"
    SCALED_DOWN = "ScaledDown"


STALLED = frozenset({Reason.INVALID_SPEC, Reason.NAME_TAKEN, Reason.QUEUE_TAKEN})
"""Problems that last until a user changes an object."""
REDIS_AWAY = frozenset(
    {
        *(Reason.INVALID_REDIS_URL, Reason.REDIS_NOT_ALLOWED),
        *(Reason.REDIS_UNREACHABLE, Reason.REDIS_REFUSED, Reason.REDIS_UNREADABLE),
    }
)
"""Problems with which the queue can be neither read nor claimed."""
CREDENTIALS = frozenset({Reason.SECRET_MISSING, Reason.CREDENTIALS_REFUSED, Reason.CREDENTIALS_MISMATCH})
"""Problems without which no worker could log in."""
UNWATCHED = CREDENTIALS | {Reason.QUEUE_TAKEN, Reason.DELETING} | REDIS_AWAY
"""Problems whose end brings no watch event: look again."""
NOT_SERVED = frozenset({Reason.QUEUE_TAKEN, Reason.DELETING, Reason.SERVED_ELSEWHERE})
"""Problems of a TaskQueue that does not own its queue: it must not read it."""
REFUSED = frozenset({Reason.WORKERS_REFUSED, Reason.RIGHT_MISSING, Reason.REQUEST_REFUSED})
"""Problems that the API server ends without any event: a quota or a right is granted. Try again, ever more seldom."""


class Problem(Struct, frozen=True):
    """What is wrong: a stable reason for programs, a message that says what to do for people."""

    reason: Reason
    message: str


def invalid_spec(error: Exception) -> Problem:
    """The spec breaks a rule that the CRD's schema cannot state."""
    return Problem(Reason.INVALID_SPEC, str(error))


def secret_missing(namespace: str, name: str) -> Problem:
    """A Secret that the workers need does not exist."""
    return Problem(Reason.SECRET_MISSING, f"Secret {name} not found: create it in namespace {namespace}")


def secret_key_missing(name: str, key: str) -> Problem:
    """The Secret of the Redis URL lacks the key. Its other keys are not listed: a TaskQueue's author may not read Secrets."""
    return Problem(Reason.SECRET_MISSING, f"Secret {name} has no key {key!r}: add it, or set spec.redis.urlSecretRef.key")


def certificate_missing(name: str, key: str) -> Problem:
    """A Secret of `spec.redis.tls` lacks a key."""
    return Problem(Reason.SECRET_MISSING, f"Secret {name} has no key {key!r}, which spec.redis.tls reads: add it")


def credentials_missing(command: str) -> Problem:
    """The namespace has no Secret for Redis, and an administrator makes these."""
    return Problem(Reason.SECRET_MISSING, f"this namespace has no credentials for Redis; an administrator runs: {command}")


def credentials_incomplete(secret: str, key: str, value: str) -> Problem:
    """The Secret for Redis lacks a key, or has a value there with which producers and workers would not meet."""
    return Problem(Reason.SECRET_MISSING, f"Secret {secret}: its key {key} must be {value}")


def credentials_refused(command: str = "") -> Problem:
    """This Redis lets the operator make no users."""
    message = "this Redis lets the operator make no ACL users"
    return Problem(
        Reason.CREDENTIALS_REFUSED, f"{message}; an administrator makes one, then runs: {command}" if command else message
    )


def secret_refused(secret: str, error: Exception, command: str) -> Problem:
    """The API server rejected the Secret: a quota, a missing right."""
    message = f"the API server rejected Secret {secret}: {error}; an administrator runs: {command}"
    return Problem(Reason.SECRET_MISSING, message)


def credentials_mismatch(secret: str, namespace: str) -> Problem:
    """The operator made the Secret, and it does not lead to the operator's Redis as that namespace's user. Shows nothing of it."""
    return Problem(
        Reason.CREDENTIALS_MISMATCH,
        f"Secret {secret} is not what the operator made, or the address of its Redis has changed: "
        f"kubectl delete secret {secret} --namespace {namespace}, and the operator makes a new one",
    )


def right_missing(error: Exception) -> Problem:
    """RBAC does not allow the operator what this TaskQueue needs. The API server names the verb and the resource."""
    return Problem(Reason.RIGHT_MISSING, f"the operator lacks a right: {error}. Grant it in the operator's Role or ClusterRole")


def request_refused(error: Exception) -> Problem:
    """The API server rejected a request that this TaskQueue needs."""
    return Problem(Reason.REQUEST_REFUSED, f"the API server rejected a request of the operator: {error}")


def name_taken(ref: Ref, found: Object) -> Problem:
    """The Deployment's name belongs to an object that this TaskQueue does not control."""
    controller = next((each for each in found["metadata"].get("ownerReferences") or () if each.get("controller")), None)
    if controller is None:
        whose = "nothing controls it, and its labels or selector are not those of these workers: delete it, or rename the TaskQueue"
    elif (controller.get("kind"), controller.get("name")) == (KIND, ref.name):
        whose = "it is controlled by an earlier TaskQueue of this name: it goes when Kubernetes has deleted that one's objects"
    else:
        whose = f"it is controlled by {controller.get('kind')} {controller.get('name')}: rename one of the two"
    return Problem(Reason.NAME_TAKEN, f"Deployment {ref.deployment} exists; {whose}")


def child_name_taken(kind: str, name: str) -> Problem:
    """The name of an object beside the Deployment belongs to another owner."""
    return Problem(
        Reason.NAME_TAKEN, f"{kind} {name} exists, and this TaskQueue does not control it: delete it, or rename the TaskQueue"
    )


def kind_missing(kind: str) -> Problem:
    """The cluster has no such resource type."""
    return Problem(
        Reason.KIND_MISSING,
        f"this cluster has no {kind}: install its CustomResourceDefinition, as the Prometheus Operator does, or set "
        "spec.observability.podMonitor: Disabled",
    )


def child_refused(kind: str, error: Exception) -> Problem:
    """Admission or a quota rejected an object beside the Deployment."""
    return Problem(Reason.CHILD_REFUSED, f"the API server rejected the {kind}: {error}")


def queue_taken(queue: QueueId, holder: Holder, own: Holder) -> Problem:
    """Two TaskQueues for one queue would scale and configure its workers against each other. Names no foreign namespace."""
    if holder.neighbour_of(own):
        message = f"queue {queue.name!r} is claimed by TaskQueue {holder.name}: set another spec.queue.name, or delete that one"
    else:
        message = (
            f"queue {queue.name!r} in this Redis is claimed by a TaskQueue of another cluster or namespace: set another "
            "spec.queue.name or another Redis; if that TaskQueue is gone: "
            f"stoker release-claim --namespace {queue.namespace} --queue {queue.name}"
        )
    return Problem(Reason.QUEUE_TAKEN, message)


def served_elsewhere(ref: Ref, other: str, own: str) -> Problem:
    """Another installation of the operator serves the TaskQueue."""
    return Problem(
        Reason.SERVED_ELSEWHERE,
        f"served by operator {other}: operator {own} watches it too, and does nothing. Let them watch different namespaces; if "
        f"{other} is gone: kubectl annotate deployment {ref.deployment} --namespace {ref.namespace} {GROUP}/installation-",
    )


def spec_contested(ref: Ref, field: str, managers: Sequence[str]) -> Problem:
    """Another writer changes the Deployment back each time."""
    who = " and ".join(managers) or "another stoker-operator, or an unknown manager,"
    return Problem(
        Reason.SPEC_CONTESTED,
        f"{who} keeps changing {field} of Deployment {ref.deployment}, which the operator sets from the TaskQueue: set it "
        f"there, or keep {who} away from this Deployment. It is put right ever more seldom",
    )


HPA = "kube-controller-manager"
"""The field manager of a HorizontalPodAutoscaler's changes of `/scale`."""


def replicas_contested(ref: Ref, manager: str) -> Problem:
    """Another writer scales the Deployment."""
    who = f"a HorizontalPodAutoscaler ({HPA})" if manager == HPA else manager or "an unknown manager"
    return Problem(
        Reason.REPLICAS_CONTESTED,
        f"{who} keeps changing the replicas of Deployment {ref.deployment}, so the operator has stopped scaling it: keep it "
        "away from this Deployment; to set the number from outside, set spec.replicas of the TaskQueue; to leave it to others, set "
        "spec.suspend",
    )


def deleting(workers: int = 0, limit: float = 0.0) -> Problem:
    """Its workers end; creating them again would block the deletion. `workers` it waits for, at most `limit` seconds."""
    if not workers:
        return Problem(Reason.DELETING, "the TaskQueue is being deleted")
    finish = "1 worker finishes its tasks" if workers == 1 else f"{workers} workers finish their tasks"
    return Problem(
        Reason.DELETING,
        f"the TaskQueue is being deleted: {finish}, for at most {format_duration(int(limit))} since its deletion. Not to wait: the "
        f"annotation {SKIP_DRAIN}=true",
    )


def deletion_hindered(problem: Problem) -> Problem:
    """A request that a deletion needs is refused."""
    return Problem(Reason.DELETING, f"the TaskQueue is being deleted: {problem.message}")


def finalizer_refused(ref: Ref, error: Exception) -> Problem:
    """The API server refuses to take the finalizer away."""
    return Problem(
        Reason.DELETING,
        f"the TaskQueue is being deleted, and the API server refuses to take the finalizer {FINALIZER} away: {error}. Grant that, "
        f"or do it: {removal(ref)}",
    )


def removal(ref: Ref) -> str:
    """The command with which people take the finalizers of a TaskQueue away."""
    patch = '{"metadata":{"finalizers":null}}'
    return f"kubectl patch taskqueue {ref.name} --namespace {ref.namespace} --type merge -p '{patch}'"


def workers_refused(error: Exception) -> Problem:
    """Admission, a quota or RBAC rejected the Deployment."""
    return Problem(Reason.WORKERS_REFUSED, f"the API server rejected the Deployment: {error}")


def pod_failing(pod: str, reason: str, message: str) -> Problem:
    """A worker pod cannot start; `reason` and `message` are the cluster's own."""
    return Problem(Reason.WORKERS_FAILING, f"pod {pod}: {reason}: {message}")


def rollout_stalled(message: str) -> Problem:
    """The newest version did not get ready within the Deployment's progress deadline."""
    return Problem(Reason.WORKERS_FAILING, f"the newest version does not get ready: {message}")


def rollout_paused(ref: Ref, trial: str, last_words: str, old: int) -> Problem:
    """The operator has paused the rollout of the newest version, whose pods fail."""
    return Problem(
        Reason.ROLLOUT_PAUSED,
        f"the rollout of the newest version is paused: {trial}. {old} of the version before go on. Change the spec, or let it go "
        f"on: kubectl annotate taskqueue {ref.name} --namespace {ref.namespace} {PAUSE_ROLLOUTS}=false"
        f"{f'. Its last words: {last_words}' if last_words else ''}",
    )


def no_pods(message: str) -> Problem:
    """The ReplicaSet cannot create pods: a quota, a policy."""
    return Problem(Reason.WORKERS_FAILING, f"pods cannot be created: {message}")


def scale_refused(error: Exception) -> Problem:
    """The API server rejected a write to the Deployment's scale subresource."""
    return Problem(Reason.SCALE_REFUSED, f"the API server rejected the new number of replicas: {error}")
