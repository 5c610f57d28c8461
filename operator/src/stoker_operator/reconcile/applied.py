"""The last spec that was applied, kept in an annotation of the workers' Deployment. Pure.

The workers are scaled by it while a newer spec cannot be applied, also after a restart of the operator. Only the fields that
scaling and reading the queue need: a whole spec may be larger than an annotation, and hold secrets in `env`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, to_builtins

from stoker.errors import Invalid
from stoker.manifest.redis_ref import RedisRef
from stoker.manifest.task_queue import GROUP, KIND, VERSION, TaskQueue, parse
from stoker_operator.state.ref import Object, Ref

APPLIED = f"{GROUP}/applied"
MOST_FORMER = 5
"""Anyone who may edit the Deployment may add to them, and each costs a read of a Secret."""
_FIELDS = ("queue", "redis", "replicas", "scaling", "rateLimit", "lease")
_WORKER_FIELDS = ("concurrency", "processes")


class Applied(Struct, frozen=True):
    """A spec that was applied, and the generation of the TaskQueue that had it. `former`: the same with each Redis that the queue
    has left, and where it may have tasks."""

    manifest: TaskQueue
    generation: int
    former: tuple[TaskQueue, ...] = ()


def annotation(task_queue: Object, former: Sequence[RedisRef] = ()) -> str:
    """The value of the annotation for a TaskQueue whose spec is valid. Secrets are in it by name only."""
    spec = task_queue["spec"]
    kept = {field: spec[field] for field in _FIELDS if field in spec}
    worker = {field: spec["worker"][field] for field in _WORKER_FIELDS if field in spec["worker"]}
    value = {"generation": task_queue["metadata"]["generation"], "spec": {**kept, "worker": worker}}
    if former:
        value["former"] = [to_builtins(redis) for redis in former]
    return json.dumps(value, sort_keys=True)


def last_applied(deployment: Object, ref: Ref) -> Applied | None:
    """The spec in the annotation of a Deployment. None without one, or if its text is not ours."""
    text = (deployment["metadata"].get("annotations") or {}).get(APPLIED, "")
    try:
        found = json.loads(text)
        manifest = _manifest(found["spec"], ref)
        former = tuple(_manifest({**found["spec"], "redis": redis}, ref) for redis in found.get("former", [])[-MOST_FORMER:])
        return Applied(manifest, int(found["generation"]), former)
    except (ValueError, TypeError, KeyError, RecursionError, Invalid):
        return None


def _manifest(spec: Mapping[str, Any], ref: Ref) -> TaskQueue:
    metadata = {"name": ref.name, "namespace": ref.namespace}
    return parse({"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": metadata, "spec": spec})
