"""The TaskQueue manifest as frozen, validated values: the same for the operator, `stoker up` and the tests.

The CRD's schema (charts/stoker) refuses most mistakes before they get here; this page holds the same
rules for a laptop, and the defaults for both. A test compares the two.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from stoker.errors import Invalid
from stoker.rules import retry
from stoker.rules.message import MAX_PRIORITY, MIN_PRIORITY, check_queue, encode_payload
from stoker.rules.partitions import MOST, partition_names
from stoker.rules.schedule import CatchUp, Definition, Overlap, cron
from stoker.rules.units import Duration, parse_duration

GROUP, VERSION, KIND, PLURAL = "stoker.dev", "v1alpha1", "TaskQueue", "taskqueues"
DEFAULT_ROUNDS = 4
"""Without `backlogPerReplica` a replica is meant to hold this many tasks a slot."""

Count = Annotated[int, Meta(ge=0, le=10_000_000)]
Replicas = Annotated[int, Meta(ge=0, le=1000)]
Pace = Annotated[int, Meta(ge=1, le=1_000_000)]
Priority = Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY)]
Slots = Annotated[int, Meta(ge=1, le=1000)]


class Factor(float):
    """A number written as a string, since a Kubernetes API has no floats."""


class Spec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The common shape of every part: camelCase outside, frozen, and no unknown field."""


class Queue(Spec, frozen=True):
    """Which queue in Redis, and over how many slots it is spread. An empty name means the resource's own."""

    name: str = ""
    partitions: Annotated[int, Meta(ge=1, le=MOST)] = 1


class SecretKey(Spec, frozen=True):
    """One key of a Secret in the same namespace."""

    name: str
    key: str = "url"


class RedisRef(Spec, frozen=True):
    """Where Redis is. None means the operator's own."""

    url_secret_ref: SecretKey | None = None


class Worker(Spec, frozen=True):
    """What runs the tasks, and how many at a time: `concurrency` in each of a replica's `processes`."""

    image: str = ""
    app: str = ""
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    concurrency: Slots = 16
    task_timeout: Duration = Duration(600)
    drain_timeout: Duration = Duration(660)
    env: list[dict[str, Any]] = []
    env_from: list[dict[str, Any]] = []
    resources: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.task_timeout <= 0:
            raise ValueError("taskTimeout must be more than 0s, or every task would time out")
        if self.drain_timeout < self.task_timeout:
            raise ValueError("drainTimeout must be at least taskTimeout, or a scale-down would kill a running task")
        if not all(isinstance(variable.get("name"), str) for variable in self.env):
            raise ValueError("every entry of env needs a name")

    @property
    def slots(self) -> int:
        """Tasks that one replica runs at a time."""
        return self.processes * self.concurrency


class RetrySpec(Spec, frozen=True):
    """The queue's retry policy, for tasks that have none of their own."""

    max_retries: Annotated[int, Meta(ge=0, le=1000)] = 3
    initial_delay: Duration = Duration(5)
    multiplier: Factor = Factor(2)
    max_delay: Duration = Duration(3600)
    jitter: retry.Jitter = retry.Jitter.FULL

    def policy(self) -> retry.Retry:
        """As the rules want it."""
        return retry.Retry(self.max_retries, self.initial_delay, self.multiplier, self.max_delay, self.jitter)


class Lease(Spec, frozen=True):
    """How long a silent worker keeps its tasks, and how often a task may be lost with its worker."""

    duration: Duration = Duration(30)
    max_lost: Annotated[int, Meta(ge=1, le=100)] = 3

    def __post_init__(self) -> None:
        if self.duration < 1:
            raise ValueError("a lease shorter than 1s would expire between two heartbeats")


class Keep(Spec, frozen=True):
    """How long ended tasks stay visible, and how many at most."""

    age: Duration
    count: Count = 100_000


class Retention(Spec, frozen=True):
    """What is kept of ended tasks."""

    succeeded: Keep = Keep(Duration(3600))
    dead: Keep = Keep(Duration(7 * 86400))


class RateLimit(Spec, frozen=True):
    """How many tasks all workers together may start: `burst` at once, and `per_second` from then on."""

    per_second: Pace
    burst: Pace


class Schedule(Spec, frozen=True):
    """A task that runs by the clock; see rules/schedule.py."""

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
        """As the rules want it."""
        strictness = {"overlap": self.overlap, "catch_up": self.catch_up}
        timing = cron(self.cron, time_zone=self.time_zone, jitter=float(self.jitter), **strictness)
        return Definition(self.name, timing, self.task, encode_payload(self.payload), self.priority, self.suspend)


class ScaleDown(Spec, frozen=True):
    """How patient scaling down is: the highest wish within `stabilization` counts."""

    stabilization: Duration = Duration(20)


class Scaling(Spec, frozen=True):
    """How many workers may exist, and what they are sized by."""

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
    """`spec` of a TaskQueue."""

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
        """Waiting tasks that one replica is meant to work through."""
        return self.scaling.backlog_per_replica or self.worker.slots * DEFAULT_ROUNDS


class TaskQueue(Struct, frozen=True):
    """One resource: its name, its namespace, and what it asks for."""

    name: str
    namespace: str
    spec: TaskQueueSpec

    @property
    def schedules(self) -> list[Definition]:
        """What it runs by the clock."""
        return [schedule.definition for schedule in self.spec.schedules]

    @property
    def queue(self) -> str:
        """The name of the queue in Redis."""
        return self.spec.queue.name or self.name

    @property
    def places(self) -> list[str]:
        """All its partitions, as the keys in Redis know them."""
        return partition_names(self.queue, self.spec.queue.partitions)


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
    namespace = metadata.get("namespace") or "default"
    if not isinstance(namespace, str):
        raise Invalid(f"{KIND} {name}: metadata.namespace must be a string, not {namespace!r}")
    queue = TaskQueue(name, namespace, spec)
    for each in (queue.name, queue.queue):
        check_queue(each)
    return queue


def load(path: Path) -> list[TaskQueue]:
    """All TaskQueues of a YAML file; documents of other kinds are passed over.

    Raises Invalid when the file cannot be read, is not YAML, or holds no TaskQueue.
    """
    import yaml  # a worker knows these types, and reads no file

    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not text, or a date such as 2026-13-45
        raise Invalid(f"{path} is not YAML: {error}") from error
    queues = [parse(document) for document in documents if isinstance(document, Mapping) and document.get("kind") == KIND]
    if not queues:
        raise Invalid(f"{path} holds no {KIND}: expected apiVersion {GROUP}/{VERSION}, kind {KIND}")
    return queues


def _in_spec(complaint: str) -> str:
    """The path in a complaint of msgspec's as a person writes it; at the root it names none."""
    path = " - at `$"
    return complaint.replace(path, " - at `spec") if path in complaint else f"{complaint} - at `spec`"


def _decode(wanted: type, value: object) -> object:
    if wanted is Duration and isinstance(value, str):
        return parse_duration(value)
    if wanted is Factor and isinstance(value, str):
        factor = Factor(value)
        if not 1 <= factor <= 100:
            raise ValueError(f"{value!r} is outside 1..100")
        return factor
    raise ValueError(f"expected a string like {'30s' if wanted is Duration else '2'!r}, got {value!r}")
