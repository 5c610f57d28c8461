"""Names: which TaskQueue is meant, and how its Deployment and pods are labelled."""

from typing import Any, NamedTuple

from msgspec import Struct

from stoker.manifest.fields import is_object_name
from stoker.manifest.task_queue import GROUP, KIND

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""

FIELD_MANAGER = "stoker-operator"
QUEUE_LABEL = f"{GROUP}/taskqueue"
MANAGED_BY = "app.kubernetes.io/managed-by"
FINALIZER = f"{GROUP}/drain"
"""Keeps a deleted TaskQueue until its workers have finished."""
SKIP_DRAIN = f"{GROUP}/skip-drain"
"""Annotation of a TaskQueue: `true` lets it go without waiting for its workers."""
ORPHAN_OF = f"{GROUP}/owner-uid"
"""Annotation of a Deployment without an owner reference: the UID of the TaskQueue whose workers it keeps after its deletion."""
ABANDON = f"{GROUP}/abandon-tasks"
"""Annotation of a TaskQueue: `true` gives up the tasks in the Redis that it has left."""
PAUSE_ROLLOUTS = f"{GROUP}/pause-rollouts"
"""Annotation of a TaskQueue: `false` lets rollouts go on whose pods fail."""


class Resource(NamedTuple):
    """A kind of objects: the path of its API, the plural in paths, the kind in manifests."""

    api: str
    plural: str
    kind: str


DEPLOYMENTS = Resource("/apis/apps/v1", "deployments", "Deployment")


class Ref(NamedTuple):
    """The namespace and name of a TaskQueue."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def deployment(self) -> str:
        """The name of its workers' Deployment."""
        return f"{self.name}-worker"

    @property
    def selector(self) -> dict[str, str]:
        """The labels that only its worker pods carry."""
        return {"app.kubernetes.io/name": "stoker-worker", QUEUE_LABEL: self.name}


class Owner(Struct, frozen=True):
    """A TaskQueue as the owner references of its children name it: by UID, not by name alone."""

    ref: Ref
    uid: str


def selector_text(ref: Ref) -> str:
    """The label selector of the worker pods as query parameters and `kubectl get -l` take it."""
    return ",".join(f"{label}={value}" for label, value in ref.selector.items())


def ref_of(task_queue: Object) -> Ref:
    """The name of a TaskQueue as the API server sent it."""
    return Ref(task_queue["metadata"]["namespace"], task_queue["metadata"]["name"])


def labelled(found: Object) -> Ref | None:
    """The TaskQueue that an object's label names. None for a value that is no name: anyone may set the label on anything."""
    metadata = found["metadata"]
    name = (metadata.get("labels") or {}).get(QUEUE_LABEL)
    return Ref(str(metadata["namespace"]), str(name)) if is_object_name(name) and "namespace" in metadata else None


def ours(found: Object) -> bool:
    """Whether a TaskQueue controls the object."""
    return any(owner.get("kind") == KIND and owner.get("controller") for owner in found["metadata"].get("ownerReferences") or ())
