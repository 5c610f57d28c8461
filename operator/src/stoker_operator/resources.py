"""From a TaskQueue to the Deployment of its workers. Pure: no cluster, no clock.

The manifest never says `replicas`: it is applied over and over under one field manager, and whoever applies
`replicas` once resets them whenever the field is left out later. They belong to the Deployment's `/scale`.
"""

import hashlib
import json
from collections.abc import Mapping
from math import ceil
from typing import Any, NamedTuple

from msgspec import Struct

from stoker.errors import Invalid
from stoker.manifest import GROUP, KIND, VERSION, SecretKey, TaskQueue
from stoker.settings import DEFAULT_WORKER_PORT, worker_environment

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""

FIELD_MANAGER = "stoker-operator"
QUEUE_LABEL = f"{GROUP}/taskqueue"
TEMPLATE_HASH = f"{GROUP}/template-hash"
SECRET_HASH = f"{GROUP}/secret-hash"
WORKER_USER = 65532
GRACE_MARGIN = 15
"""Seconds a pod gets beyond its drain timeout: to hand back what did not finish, and to flush traces."""


class Ref(NamedTuple):
    """Which TaskQueue."""

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
    """The TaskQueue as its children name it."""

    ref: Ref
    uid: str


class Connection(Struct, frozen=True):
    """Where the workers find Redis, and a digest of every Secret they read (empty where there is none)."""

    url: str
    secrets_digest: str = ""


def check(queue: TaskQueue) -> None:
    """What a cluster asks for beyond the manifest's own rules. Raises Invalid with what to do."""
    worker = queue.spec.worker
    if not worker.image:
        raise Invalid("spec.worker.image is missing: name the image with your application, such as registry.example.org/shop:1.4")
    own = {*worker_environment(queue, ""), "STOKER_HOST", "STOKER_REDIS_URL", "POD_NAME"}
    for at, variable in enumerate(worker.env):
        name = variable.get("name")
        if name in own:
            raise Invalid(f"spec.worker.env[{at}]: {name} is written from the spec's own fields: remove it and set the field")


def secret_names(queue: TaskQueue) -> tuple[str, ...]:
    """The Secrets that the workers cannot start without, the one of the Redis URL first."""
    spec = queue.spec
    names = [spec.redis.url_secret_ref.name] if spec.redis.url_secret_ref else []
    for variable in spec.worker.env:
        names += _secret((variable.get("valueFrom") or {}).get("secretKeyRef"))
    for source in spec.worker.env_from:
        names += _secret(source.get("secretRef"))
    return tuple(dict.fromkeys(names))


def _secret(reference: Any) -> list[str]:
    if not isinstance(reference, Mapping) or reference.get("optional") or not reference.get("name"):
        return []
    return [str(reference["name"])]


def deployment(queue: TaskQueue, owner: Owner, connection: Connection, namespace: str) -> Object:
    """What is applied: all of the Deployment but `replicas`."""
    labels = {
        **owner.ref.selector,
        "app.kubernetes.io/instance": owner.ref.name,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
    }
    annotations = {SECRET_HASH: connection.secrets_digest} if connection.secrets_digest else {}
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": _pod(queue, connection, namespace)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": owner.ref.deployment,
            "namespace": owner.ref.namespace,
            "labels": labels,
            "annotations": {TEMPLATE_HASH: digest(template)},
            "ownerReferences": [_owner_reference(owner)],
        },
        "spec": {
            "paused": False,
            "selector": {"matchLabels": owner.ref.selector},
            # Never fewer workers than before a rollout; new ones start beside the old.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": template,
        },
    }


def seed(manifest: Object, replicas: int) -> Object:
    """What is created, once, before the first apply: the barest Deployment that is paused, so that it makes no pod.

    Creating is the one moment to choose a number of replicas (left out, the API server writes 1), and the one call that
    cannot take over a stranger's object of the same name. Creating makes the creator an owner of every field it
    sends, beside the later apply, and a field with two owners does not go away when one drops it: so it sends only
    what every later apply sends too.
    """
    template = manifest["spec"]["template"]
    container = template["spec"]["containers"][0]
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "annotations"}
    return {
        **{key: manifest[key] for key in ("apiVersion", "kind")},
        "metadata": metadata,
        "spec": {
            "paused": True,
            "replicas": replicas,
            "selector": manifest["spec"]["selector"],
            "template": {
                "metadata": {"labels": template["metadata"]["labels"]},
                "spec": {"containers": [{"name": container["name"], "image": container["image"]}]},
            },
        },
    }


def digest(value: object) -> str:
    """A short, stable digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _owner_reference(owner: Owner) -> Object:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": owner.ref.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _pod(queue: TaskQueue, connection: Connection, namespace: str) -> Object:
    return {
        "automountServiceAccountToken": False,
        # The first process of a namespace is deaf to SIGTERM until it has a handler: a worker that is told to stop while
        # Python still starts would run on, and take tasks, until its grace period is over. So the pod's pause is the first.
        "shareProcessNamespace": True,
        "enableServiceLinks": False,  # a Service called "stoker" would set STOKER_PORT, which is a setting
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": WORKER_USER,
            "runAsGroup": WORKER_USER,
            "fsGroup": WORKER_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": ceil(queue.spec.worker.drain_timeout) + GRACE_MARGIN,
        "containers": [_container(queue, connection, namespace)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def _container(queue: TaskQueue, connection: Connection, namespace: str) -> Object:
    worker = queue.spec.worker
    container = {
        "name": "worker",
        "image": worker.image,
        "env": _environment(queue, connection, namespace),
        "ports": [{"name": "http", "containerPort": DEFAULT_WORKER_PORT, "protocol": "TCP"}],
        # An application may take a minute to import; until then nobody asks whether it lives.
        "startupProbe": _probe("/livez", period=1, failures=60),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  the only place a worker may write to
    }
    if worker.app:  # without one the image's own command knows what to run
        container["args"] = ["worker"]
    if worker.env_from:
        container["envFrom"] = worker.env_from
    if worker.resources:
        container["resources"] = worker.resources
    return container


def _environment(queue: TaskQueue, connection: Connection, namespace: str) -> list[Object]:
    own = [{"name": name, "value": value} for name, value in worker_environment(queue, namespace).items()]
    pod = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
    # Probes and Prometheus come from outside the pod's loopback.
    own.append({"name": "STOKER_HOST", "value": "0.0.0.0"})
    return [*own, _redis(queue.spec.redis.url_secret_ref, connection), pod, *queue.spec.worker.env]


def _redis(secret: SecretKey | None, connection: Connection) -> Object:
    if secret is None:
        return {"name": "STOKER_REDIS_URL", "value": connection.url}
    return {"name": "STOKER_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
