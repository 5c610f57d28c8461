"""The Deployment of a TaskQueue's workers, as a manifest. Pure: no cluster, no clock.

The manifest has no `replicas`: a field manager that applies the field once resets it by every later apply without it.
Replicas are written through the Deployment's `/scale` only.
"""

import hashlib
import json
from collections.abc import Mapping
from math import ceil

from msgspec import Struct, to_builtins

from stoker.errors import Invalid
from stoker.listening import EVERYWHERE
from stoker.manifest.redis_ref import CA_FILE, CERT_FILE, KEY_FILE
from stoker.manifest.task_queue import GROUP, KIND, VERSION, TaskQueue
from stoker.manifest.worker_pods import Worker
from stoker.redis.url import FILE_VARIABLES
from stoker.settings import DEFAULT_WORKER_PORT, tracing_environment, worker_environment
from stoker_operator.reconcile.applied import APPLIED
from stoker_operator.reconcile.config_sources import redis_secret
from stoker_operator.reconcile.pod_security import check_annotations
from stoker_operator.reconcile.pod_template import (
    POD_NAME,
    TEMPLATE_ENV,
    WORKER,
    check_template,
    containers_of,
    image_of,
    shaped,
)
from stoker_operator.state.ref import FIELD_MANAGER, MANAGED_BY, ORPHAN_OF, Object, Owner

TEMPLATE_HASH = f"{GROUP}/template-hash"
INSTALLATION = f"{GROUP}/installation"
"""The installation of the operator that serves the TaskQueue: another one leaves the Deployment alone."""
PAUSED_ROLLOUT = f"{GROUP}/paused-rollout"
"""Annotation: the template hash of the version whose rollout the operator has paused."""
CONFIG_HASH = f"{GROUP}/config-hash"
INHERITED = f"{GROUP}/inherited-labels"
"""Annotation: the keys of the labels that the Deployment inherits, so that one that is gone is noticed."""
WORKER_USER = 65532
_FIXED_IDS = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), WORKER_USER)
HUNG_GRACE = 10
"""Seconds of grace for a worker that fails its startup or liveness probe."""
TMP_SIZE = "2Gi"
REQUESTS_PER_PROCESS = (50, 96)
"""Millicores and MiB: what an idle worker with a small application takes."""
TLS_PATH = "/var/run/stoker/redis-tls"
_TLS_OPTIONS = {CA_FILE: "ssl_ca_certs", CERT_FILE: "ssl_certfile", KEY_FILE: "ssl_keyfile"}
_TLS_VARIABLES = {file: FILE_VARIABLES[option] for file, option in _TLS_OPTIONS.items()}
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
GRACE_MARGIN = 15
"""Seconds of a pod's termination grace beyond its drain timeout: to release unfinished tasks and flush traces."""


class Connection(Struct, frozen=True):
    """The URL at which the operator reads the queue (no tenant sees it), and a digest of what the workers read from Secrets and
    ConfigMaps (config_sources.py)."""

    url: str
    config_digest: str = ""


def check(queue: TaskQueue, *, tokens: bool = False) -> None:
    """Rules of a cluster beyond those of the manifest. Raises Invalid with what to do.

    `tokens`: whether the template may give pods tokens of service accounts.
    """
    worker = queue.spec.worker
    check_template(worker.template, tokens=tokens)
    in_template = image_of(worker.template)
    if not worker.image and not in_template:
        raise Invalid(
            "spec.worker.image is missing: set it to the image with your application, such as registry.example.org/shop:1.4"
        )
    if worker.image and in_template and worker.image != in_template:
        raise Invalid("spec.worker.image and the image of container worker in spec.worker.template differ: keep one of them")
    check_annotations("spec.worker.annotations", worker.annotations)
    own = {
        *_environment_of(queue),
        "STOKER_HOST",
        "STOKER_REDIS_URL",
        TEMPLATE_ENV,
        POD_NAME,
    }
    for at, variable in enumerate(worker.env):
        name = variable.get("name")
        if name in own:
            raise Invalid(f"spec.worker.env[{at}]: {name} is set by the operator from other fields: remove it")


def deployment(
    queue: TaskQueue,
    owner: Owner,
    connection: Connection,
    *,
    applied: str = "",
    installation: str = "",
    inherited: Mapping[str, str] | None = None,
) -> Object:
    """The manifest for server-side apply: everything but `replicas`. `applied`: see applied.py; `inherited`: see inherited.py."""
    inherited, worker = inherited or {}, queue.spec.worker
    labels = own_labels(owner)
    # The cluster-autoscaler gives no node back that has a pod with an emptyDir, unless the pod says that nothing is lost with it.
    annotations = {**worker.annotations, SAFE_TO_EVICT: "tmp"}
    if connection.config_digest:
        annotations[CONFIG_HASH] = connection.config_digest
    ours: Object = {"metadata": {"labels": {**worker.labels, **labels}, "annotations": annotations}, "spec": _pod(queue)}
    template = shaped(ours, worker.template)
    # Without an owner reference the garbage collector leaves the workers alone, also while no operator runs.
    orphan = queue.spec.deletion_policy == "Orphan"
    stamp = digest(template)
    # By it workers announce which tasks they know, and the autoscaler asks which unclaimed tasks they have seen.
    template["spec"]["containers"][0]["env"].insert(0, {"name": TEMPLATE_ENV, "value": stamp})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **owned_metadata(owner, inherited),
            "annotations": {
                TEMPLATE_HASH: stamp,
                APPLIED: applied,
                INSTALLATION: installation,
                INHERITED: ",".join(sorted(inherited)),
                **({ORPHAN_OF: owner.uid} if orphan else {}),
            },
            **({"ownerReferences": []} if orphan else {}),
        },
        "spec": {
            "paused": False,
            "selector": {"matchLabels": owner.ref.selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": to_builtins(worker.strategy)},
            "template": template,
        },
    }


def paused(manifest: Object) -> Object:
    """The manifest with its rollout paused (rollout.py)."""
    annotations = manifest["metadata"]["annotations"]
    metadata = {**manifest["metadata"], "annotations": {**annotations, PAUSED_ROLLOUT: annotations[TEMPLATE_HASH]}}
    return {**manifest, "metadata": metadata, "spec": {**manifest["spec"], "paused": True}}


def own_labels(owner: Owner) -> dict[str, str]:
    """The labels of everything that is made for a TaskQueue."""
    return {**owner.ref.selector, "app.kubernetes.io/instance": owner.ref.name, MANAGED_BY: FIELD_MANAGER}


def owned_metadata(owner: Owner, inherited: Mapping[str, str]) -> Object:
    """The metadata of every object that a TaskQueue owns: all have the Deployment's name."""
    return {
        "name": owner.ref.deployment,
        "namespace": owner.ref.namespace,
        "labels": {**inherited, **own_labels(owner)},
        "ownerReferences": [_owner_reference(owner)],
    }


def created(manifest: Object, replicas: int) -> Object:
    """The Deployment to create: the whole manifest, since policies may refuse one without probes or limits, and replicas.

    Creation is the one call that sets replicas without owning the field in later applies (left out, the API server writes 1),
    and the one that cannot take over an existing object of the same name. Its other fields are handed over (ownership.py).
    """
    return {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}


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


def _pod(queue: TaskQueue) -> Object:
    return {
        "automountServiceAccountToken": False,
        # The kernel drops SIGTERM to PID 1 until a handler is installed: a worker that is stopped while Python starts would
        # run on, and fetch tasks, until the end of its grace period. With this the pause container is PID 1.
        "shareProcessNamespace": True,
        "enableServiceLinks": False,  # a Service named "stoker" would set STOKER_PORT, which is a worker setting
        "securityContext": {
            "runAsNonRoot": True,
            **(_FIXED_IDS if queue.spec.worker.user_ids == "Fixed" else {}),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": ceil(queue.spec.worker.drain_timeout) + GRACE_MARGIN,
        "containers": [_container(queue)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}}, *_certificates(queue)],
    }


def _container(queue: TaskQueue) -> Object:
    worker = queue.spec.worker
    container = {
        "name": WORKER,
        "image": worker.image,
        "env": _environment(queue),
        # How a worker that crashes ended is in its pod's status, without a right to read logs.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "ports": [{"name": "http", "containerPort": DEFAULT_WORKER_PORT, "protocol": "TCP"}],
        # Importing an application may take minutes: no liveness probe until then.
        "startupProbe": {
            **_probe("/startz", period=1, failures=ceil(worker.startup_timeout)),
            "terminationGracePeriodSeconds": HUNG_GRACE,
        },
        # A process that hangs has given up its leases: waiting for its tasks helps no one.
        "livenessProbe": {**_probe("/livez", period=10, failures=3), "terminationGracePeriodSeconds": HUNG_GRACE},
        "readinessProbe": _probe("/readyz", period=2, failures=3),
        # SIGTERM reaches the container's first process alone. Where that is a script without `exec`, it ends at once, and its
        # worker is killed with it: so the worker is drained before.
        "lifecycle": {"preStop": {"exec": {"command": ["stoker", "worker", "drain"]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  the only writable directory
            *({"name": each["name"], "mountPath": TLS_PATH, "readOnly": True} for each in _certificates(queue)),
        ],
    }
    if worker.app:  # empty: the image's own command starts the worker
        container["args"] = ["worker"]
    if worker.env_from:
        container["envFrom"] = worker.env_from
    if resources := worker.resources or _usual_requests(worker):
        container["resources"] = resources
    return container


def _usual_requests(worker: Worker) -> Object:
    """Requests where neither `resources` nor the template has any. Without them a pod is the first that a node under pressure
    evicts, and the cluster-autoscaler adds no node for it."""
    if any("resources" in each for each in containers_of(worker.template, "containers") if each.get("name") == WORKER):
        return {}
    cpu, memory = (each * worker.processes for each in REQUESTS_PER_PROCESS)
    return {"requests": {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}}


def _certificates(queue: TaskQueue) -> list[Object]:
    """The volume of `spec.redis.tls`, if it is used."""
    secrets: dict[str, list[Object]] = {}
    for file, name, key in queue.spec.redis.tls.files():
        secrets.setdefault(name, []).append({"key": key, "path": file})
    projected = [{"secret": {"name": name, "items": items}} for name, items in secrets.items()]
    return [{"name": "redis-tls", "projected": {"defaultMode": 0o444, "sources": projected}}] if projected else []


def _environment_of(queue: TaskQueue) -> dict[str, str]:
    certificates = {_TLS_VARIABLES[file]: f"{TLS_PATH}/{file}" for file, _, _ in queue.spec.redis.tls.files()}
    return worker_environment(queue, queue.key_namespace) | tracing_environment(queue) | certificates


def _environment(queue: TaskQueue) -> list[Object]:
    settings = _environment_of(queue)
    own = [{"name": name, "value": value} for name, value in settings.items()]
    pod = {"name": POD_NAME, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
    # Probes and Prometheus connect from outside the pod.
    own.append({"name": "STOKER_HOST", "value": EVERYWHERE})
    secret = redis_secret(queue)
    url = {"name": "STOKER_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
    return [*own, url, pod, *queue.spec.worker.env]


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
