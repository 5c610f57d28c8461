"""What the workers' pods read from Secrets and ConfigMaps, and a digest of it by which a change rolls the workers. Pure."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from stoker.manifest.fields import is_object_name
from stoker.manifest.redis_ref import SecretKey
from stoker.manifest.task_queue import TaskQueue
from stoker_operator.credentials.tenant import SECRET, URL
from stoker_operator.reconcile.pod_template import containers_of, objects_in

Kind = Literal["Secret", "ConfigMap"]


class Source(NamedTuple):
    """One key of a Secret or a ConfigMap that the pods read; all its keys if `key` is None. `optional`: pods start without it."""

    kind: Kind
    name: str
    key: str | None
    optional: bool = False


class Content(NamedTuple):
    """The decoded data of a Secret or a ConfigMap, its UID, and its resourceVersion."""

    uid: str
    data: Mapping[str, bytes]
    version: str = ""


def redis_secret(queue: TaskQueue) -> SecretKey:
    """Where the workers' Redis URL is: in a Secret, never in the manifest, which more people may read."""
    return queue.spec.redis.url_secret_ref or SecretKey(name=SECRET, key=URL)


def sources(queue: TaskQueue) -> tuple[Source, ...]:
    """What the pods read, the Secret of the Redis URL first. A reference that the API server will refuse is left out."""
    url = redis_secret(queue)
    found = [Source("Secret", url.name, url.key)]
    # A worker reads its certificates once: it must be replaced before they expire.
    found += [Source("Secret", name, key) for _, name, key in queue.spec.redis.tls.files()]
    worker = queue.spec.worker
    for container in ({"env": worker.env, "envFrom": worker.env_from}, *containers_of(worker.template)):
        for variable in objects_in(container, "env"):
            value = variable.get("valueFrom")
            found += _in(value, "secretKeyRef", "Secret", by_key=True) + _in(value, "configMapKeyRef", "ConfigMap", by_key=True)
        for each in objects_in(container, "envFrom"):
            found += _in(each, "secretRef", "Secret") + _in(each, "configMapRef", "ConfigMap")
    return tuple(dict.fromkeys(found))


def config_digest(read: tuple[Source, ...], contents: Mapping[tuple[Kind, str], Content]) -> str:
    """A digest of what the pods read; what is absent in `contents` is missing, or may not be read.

    It is in the Deployment, which more people may read than its Secrets, and must not confirm a guess of one: so the values of a
    Secret are hashed with its UID as the key (HMAC), which is random and shown only to who may read the Secret.
    """
    hashed: dict[str, str] = {}
    for kind, name, key, _ in read:
        if (content := contents.get((kind, name))) is None:
            continue
        values = {each: value.hex() for each, value in content.data.items() if key in (None, each)}
        secret = content.uid if kind == "Secret" else ""
        text = json.dumps([kind, name, values], sort_keys=True)
        hashed[f"{kind}/{name}/{key or ''}"] = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]


def _in(holder: Any, field: str, kind: Kind, *, by_key: bool = False) -> list[Source]:
    reference = holder.get(field) if isinstance(holder, Mapping) else None
    if not isinstance(reference, Mapping) or not is_object_name(name := reference.get("name")):
        return []
    return [Source(kind, str(name), str(reference.get("key")) if by_key else None, reference.get("optional") is True)]
