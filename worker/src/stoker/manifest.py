"""The TaskQueue manifest as frozen, validated values, for the operator and `stoker up`.

The rules and defaults are those of the CRD (charts/stoker/files/crd.yaml), which rejects most mistakes at admission; a test
compares the two.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from stoker.errors import Invalid
from stoker.rules import retry
from stoker.rules.message import MAX_PRIORITY, MIN_PRIORITY, check_namespace, check_queue, encode_payload
from stoker.rules.partitions import MOST, partition_names
from stoker.rules.pod_metadata import check_annotations, check_labels
from stoker.rules.schedule import CatchUp, Definition, Overlap, cron
from stoker.rules.units import Duration, parse_duration

GROUP, VERSION, KIND, PLURAL = "stoker.dev", "v1alpha1", "TaskQueue", "taskqueues"
DEFAULT_BACKLOG_PER_SLOT = 4
"""`backlogPerReplica` defaults to this times the slots of a replica."""

_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")

Count = Annotated[int, Meta(ge=0, le=10_000_000)]
Replicas = Annotated[int, Meta(ge=0, le=1000)]
Pace = Annotated[int, Meta(ge=1, le=1_000_000)]
Priority = Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY)]
Slots = Annotated[int, Meta(ge=1, le=1000)]


class Factor(float):
    """A number written as a string: Kubernetes APIs avoid floats."""


class Spec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Base of every part: camelCase in the manifest, frozen, unknown fields forbidden."""


class Queue(Spec, frozen=True):
    """The queue in Redis and its number of partitions. An empty name means metadata.name."""

    name: str = ""
    partitions: Annotated[int, Meta(ge=1, le=MOST)] = 1


class SecretKey(Spec, frozen=True):
    """One key of a Secret in the same namespace."""

    name: str
    key: str = "url"

    def __post_init__(self) -> None:
        _check_secret_name("name", self.name)
        if not _SECRET_KEY.fullmatch(self.key):
            raise ValueError("key is not a key of a Secret: use letters, digits, '-', '_' and '.'")


class RedisRef(Spec, frozen=True):
    """Where Redis is, and the namespace of the keys in it. None means the operator's default Redis.

    An empty `namespace` means metadata.namespace. Another one is allowed only in a Redis of one's own: in the shared one it would
    open the queues of other namespaces.
    """

    url_secret_ref: SecretKey | None = None
    namespace: str = ""

    def __post_init__(self) -> None:
        if self.namespace and self.url_secret_ref is None:
            raise ValueError("namespace needs urlSecretRef: only a Redis of your own may hold keys of another namespace")
        if self.namespace:
            try:
                check_namespace(self.namespace)
            except Invalid as error:
                raise ValueError(str(error)) from error


class Worker(Spec, frozen=True):
    """The worker pods. Each runs `processes` processes with `concurrency` tasks at a time."""

    image: str = ""
    app: str = ""
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    concurrency: Slots = 16
    task_timeout: Duration = Duration(600)
    drain_timeout: Duration = Duration(660)
    startup_timeout: Duration = Duration(300)
    env: list[dict[str, Any]] = []
    env_from: list[dict[str, Any]] = []
    resources: dict[str, Any] = {}
    user_ids: Literal["Fixed", "Cluster"] = "Fixed"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.task_timeout <= 0:
            raise ValueError("taskTimeout must be more than 0s, or every task would time out")
        if self.drain_timeout < self.task_timeout:
            raise ValueError("drainTimeout must be at least taskTimeout, or a scale-down would kill a running task")
        if self.startup_timeout < 1:
            raise ValueError("startupTimeout must be at least 1s, or no worker would start")
        if not all(isinstance(variable.get("name"), str) for variable in self.env):
            raise ValueError("every entry of env needs a name")
        check_labels(self.labels)
        check_annotations(self.annotations)
        for field, reference in self.secret_refs():
            _check_secret_name(f"{field}.name", reference.get("name"))

    def secret_refs(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The references of `env` and `envFrom` to Secrets, each with its field. Raises ValueError for what is no mapping."""
        for at, variable in enumerate(self.env):
            source = _mapping(f"env[{at}].valueFrom", variable.get("valueFrom"))
            if source.get("secretKeyRef") is not None:
                field = f"env[{at}].valueFrom.secretKeyRef"
                yield field, _mapping(field, source["secretKeyRef"])
        for at, source in enumerate(self.env_from):
            if source.get("secretRef") is not None:
                field = f"envFrom[{at}].secretRef"
                yield field, _mapping(field, source["secretRef"])

    @property
    def slots(self) -> int:
        """Concurrent tasks of one replica."""
        return self.processes * self.concurrency


class RetrySpec(Spec, frozen=True):
    """The queue's retry policy, for tasks without one."""

    max_retries: Annotated[int, Meta(ge=0, le=1000)] = 3
    initial_delay: Duration = Duration(5)
    multiplier: Factor = Factor(2)
    max_delay: Duration = Duration(3600)
    jitter: retry.Jitter = retry.Jitter.FULL

    def policy(self) -> retry.Retry:
        """The policy as stoker.rules takes it."""
        return retry.Retry(self.max_retries, self.initial_delay, self.multiplier, self.max_delay, self.jitter)


class Lease(Spec, frozen=True):
    """How long a worker that stopped renewing keeps its tasks; after `max_lost` worker losses a task is dead."""

    duration: Duration = Duration(30)
    max_lost: Annotated[int, Meta(ge=1, le=100)] = 3

    def __post_init__(self) -> None:
        if self.duration < 1:
            raise ValueError("a lease shorter than 1s would expire between two heartbeats")


class Keep(Spec, frozen=True):
    """How long ended tasks are kept, and how many at most."""

    age: Duration
    count: Count = 100_000


class KeepFor(Spec, frozen=True):
    """How long something is kept."""

    age: Duration


class Retention(Spec, frozen=True):
    """What is kept of succeeded and dead tasks; how long unclaimed ones wait for a worker that knows them before they are dead."""

    succeeded: Keep = Keep(Duration(3600))
    dead: Keep = Keep(Duration(7 * 86400))
    unclaimed: KeepFor = KeepFor(Duration(7 * 86400))


class RateLimit(Spec, frozen=True):
    """Limit on the starts of tasks across all workers: a token bucket of size `burst`, refilled with `per_second` tokens."""

    per_second: Pace
    burst: Pace


class Schedule(Spec, frozen=True):
    """A periodic task; see rules/schedule.py."""

    name: str
    cron: str
    task: str
    time_zone: str = "UTC"
    payload: dict[str, Any] = {}
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    jitter: Duration = Duration(0)
    priority: Priority = 0
    suspend: bool = False

    def __post_init__(self) -> None:
        try:
            _ = self.definition
        except Invalid as error:
            raise ValueError(str(error)) from error

    @property
    def definition(self) -> Definition:
        """The definition as stoker.rules takes it."""
        strictness = {"overlap": self.overlap, "catch_up": self.catch_up}
        timing = cron(self.cron, time_zone=self.time_zone, jitter=float(self.jitter), **strictness)
        return Definition(self.name, timing, self.task, encode_payload(self.payload), self.priority, self.suspend)


class ScaleDown(Spec, frozen=True):
    """Scale down to the highest recommendation of the last `stabilization` seconds."""

    stabilization: Duration = Duration(20)


class Scaling(Spec, frozen=True):
    """The limits of the number of replicas, and what it is computed from."""

    min_replicas: Replicas = 0
    max_replicas: Replicas = 20
    backlog_per_replica: Annotated[int, Meta(ge=1)] | None = None
    idle_after: Duration = Duration(20)
    paused: Literal["None", "ScaleIn", "ScaleOut", "All"] = "None"
    scale_down: ScaleDown = ScaleDown()

    def __post_init__(self) -> None:
        if self.max_replicas < 1:
            raise ValueError("maxReplicas must be at least 1; to stop the workers set replicas: 0 or suspend: true")
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas {self.min_replicas} is more than maxReplicas {self.max_replicas}")


class TaskQueueSpec(Spec, frozen=True):
    """The `spec` of a TaskQueue."""

    worker: Worker
    suspend: bool = False
    replicas: Replicas | None = None
    queue: Queue = Queue()
    redis: RedisRef = RedisRef()
    retry: RetrySpec = RetrySpec()
    lease: Lease = Lease()
    retention: Retention = Retention()
    rate_limit: RateLimit | None = None
    schedules: Annotated[list[Schedule], Meta(max_length=100)] = []
    scaling: Scaling = Scaling()

    def __post_init__(self) -> None:
        names = [schedule.name for schedule in self.schedules]
        if len(names) != len(set(names)):
            raise ValueError("two schedules have the same name")

    @property
    def backlog_per_replica(self) -> int:
        """Waiting tasks per replica that the autoscaler aims at."""
        return self.scaling.backlog_per_replica or self.worker.slots * DEFAULT_BACKLOG_PER_SLOT


class TaskQueue(Struct, frozen=True):
    """A TaskQueue resource. `namespace` is empty where the manifest names none."""

    name: str
    namespace: str
    spec: TaskQueueSpec

    @property
    def schedules(self) -> list[Definition]:
        """Its schedules as stoker.rules takes them."""
        return [schedule.definition for schedule in self.spec.schedules]

    @property
    def queue(self) -> str:
        """The name of the queue in Redis."""
        return self.spec.queue.name or self.name

    @property
    def key_namespace(self) -> str:
        """The namespace of its keys in Redis. With `queue` this is the identity of the queue; empty as `namespace` may be."""
        return self.spec.redis.namespace or self.namespace

    @property
    def partitions(self) -> list[str]:
        """The names of its partitions, as in the keys of Redis."""
        return partition_names(self.queue, self.spec.queue.partitions)


def is_object_name(name: object) -> bool:
    """Whether this is a DNS-1123 subdomain, as the names of Secrets and most other objects of Kubernetes are."""
    return isinstance(name, str) and len(name) <= 253 and _OBJECT_NAME.fullmatch(name) is not None


def parse(document: Mapping[str, Any]) -> TaskQueue:
    """A TaskQueue from a decoded manifest or API object.

    Raises Invalid naming the resource and the field, such as
    ``TaskQueue emails: Expected `int`, got `str` - at `$.worker.concurrency` ``.
    """
    if not isinstance(document, Mapping) or document.get("kind") != KIND:
        raise Invalid(f"not a {KIND}: expected a YAML document with apiVersion {GROUP}/{VERSION} and kind {KIND}")
    if document.get("apiVersion") != f"{GROUP}/{VERSION}":
        raise Invalid(f"{KIND}: apiVersion must be {GROUP}/{VERSION}, not {document.get('apiVersion')!r}")
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(metadata, Mapping) or not isinstance(name, str):
        raise Invalid(f"{KIND}: metadata.name is missing")
    try:
        spec = msgspec.convert(document.get("spec"), TaskQueueSpec, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise Invalid(f"{KIND} {name}: {_in_spec(str(error))}") from error
    namespace = metadata.get("namespace") or ""
    if not isinstance(namespace, str):
        raise Invalid(f"{KIND} {name}: metadata.namespace must be a string, not {namespace!r}")
    queue = TaskQueue(name, namespace, spec)
    for each in (queue.name, queue.queue):
        check_queue(each)
    return queue


def _check_secret_name(field: str, name: object) -> None:
    # The operator reads the Secret with its own rights: a name such as ../../finance/secrets/stripe must not become a path.
    if not is_object_name(name):
        raise ValueError(f"{field} is not the name of a Secret: use lower-case letters, digits, '-' and '.'")


def _mapping(field: str, value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{field} must be an object")
    return value


def _in_spec(message: str) -> str:
    """A validation message of msgspec with the path as users write it; msgspec gives none for the root."""
    path = " - at `$"
    return message.replace(path, " - at `spec") if path in message else f"{message} - at `spec`"


def _decode(wanted: type, value: object) -> object:
    if wanted is Duration and isinstance(value, str):
        return parse_duration(value)
    if wanted is Factor and isinstance(value, str):
        factor = Factor(value)
        if not 1 <= factor <= 100:
            raise ValueError(f"{value!r} is outside 1..100")
        return factor
    raise ValueError(f"expected a string like {'30s' if wanted is Duration else '2'!r}, got {value!r}")
