"""The TaskQueue resource as a whole."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from stoker.errors import Invalid
from stoker.manifest.fields import Replicas, Spec, decode
from stoker.manifest.observability import Disruption, Observability
from stoker.manifest.policies import Lease, RateLimit, Retention, RetrySpec
from stoker.manifest.redis_ref import RedisRef
from stoker.manifest.scaling import Scaling
from stoker.manifest.schedule_spec import Schedule
from stoker.manifest.worker_pods import Worker
from stoker.rules.message import check_queue
from stoker.rules.partitions import MOST, partition_names
from stoker.rules.schedule import Definition

GROUP, VERSION, KIND, PLURAL = "stoker.dev", "v1alpha1", "TaskQueue", "taskqueues"


class Queue(Spec, frozen=True):
    """The queue in Redis and its number of partitions. An empty name means metadata.name."""

    name: str = ""
    partitions: Annotated[int, Meta(ge=1, le=MOST)] = 1


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
    schedules: Annotated[list[Schedule], Meta(max_length=100)] = field(default_factory=list)
    scaling: Scaling = Scaling()
    disruption: Disruption = Disruption()
    observability: Observability = Observability()
    deletion_policy: Literal["Drain", "Delete", "Orphan"] = "Drain"

    def __post_init__(self) -> None:
        names = [schedule.name for schedule in self.schedules]
        if len(names) != len(set(names)):
            raise ValueError("two schedules have the same name")


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
        spec = msgspec.convert(document.get("spec"), TaskQueueSpec, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise Invalid(f"{KIND} {name}: {_in_spec(str(error))}") from error
    namespace = metadata.get("namespace") or ""
    if not isinstance(namespace, str):
        raise Invalid(f"{KIND} {name}: metadata.namespace must be a string, not {namespace!r}")
    queue = TaskQueue(name, namespace, spec)
    for each in (queue.name, queue.queue):
        check_queue(each)
    return queue


def _in_spec(message: str) -> str:
    """A validation message of msgspec with the path as users write it; msgspec gives none for the root."""
    path = " - at `$"
    return message.replace(path, " - at `spec") if path in message else f"{message} - at `spec`"
