"""The Kubernetes client: one method per request that the operator makes, and the one place that maps its errors to ours."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
from msgspec import Struct

from stoker.errors import NotFound, StokerError
from stoker.manifest.fields import is_object_name
from stoker.manifest.task_queue import GROUP, PLURAL, VERSION
from stoker_operator.decoding import decode
from stoker_operator.state.ref import FIELD_MANAGER, QUEUE_LABEL, Object, Ref, Resource, selector_text
from stoker_operator.state.write_guard import WriteGuard

TIMEOUT = 10.0
"""Seconds for one request; the API server's own limit is 60."""
PAGE = 500
SCALE_ATTEMPTS = 3
LONGEST_PAUSE = 60.0
"""Seconds of a pause that the API server asks for."""

JSON, MERGE, STEPS = "application/json", "application/merge-patch+json", "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

# Messages of a 422 for another UID: of a server-side apply, and of a JSON patch whose `test` failed.
_UID_MISMATCH = ("metadata.uid: Invalid value", "the server rejected our request due to an error in our request")


class KubernetesUnavailable(StokerError):
    """The API server does not answer, or asks to retry later."""


class KubernetesBusy(KubernetesUnavailable):
    """The API server asked for a pause (429 or 503 with Retry-After), which is not over yet. `seconds` are left of it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the API server asked for no more requests for {seconds:.1f}s")
        self.seconds = seconds


class KubernetesRefused(StokerError):
    """The API server rejected the request: an invalid object, a missing right, a failed webhook."""


class KubernetesForbidden(KubernetesRefused):
    """A right is missing; the message names the verb and the resource. Also a quota or a policy, for a write."""


class KubernetesConflict(StokerError):
    """The object is another one of that name, or exists already. Reconcile again."""


class ConfigMap(Struct, frozen=True):
    """The data of a ConfigMap, binary or not, and its resourceVersion."""

    data: dict[str, bytes]
    version: str


class Secret(Struct, frozen=True):
    """The decoded data of a Secret, its labels, its UID, and its resourceVersion."""

    data: dict[str, bytes]
    labels: dict[str, str]
    uid: str
    version: str = ""

    def __repr__(self) -> str:
        return "Secret(...)"


class Kube:
    """All methods raise KubernetesUnavailable, KubernetesRefused, KubernetesConflict, or NotFound; those that write also NotLeader.

    A pause that the API server asks for holds for every request: its limits are those of a user, not of one object.
    """

    def __init__(self, api: Any, guard: WriteGuard, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._guard = guard
        self._monotonic = monotonic
        self._pause_until = float("-inf")

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def cluster_id(self) -> str:
        """The UID of the namespace kube-system, which lives as long as the cluster."""
        return str((await self.namespace("kube-system"))["metadata"]["uid"])

    async def namespace(self, name: str) -> Object:
        """The namespace."""
        return await self._call("GET", f"/api/v1/namespaces/{quote(name, safe='')}")

    async def task_queues(self, namespace: str = "", *, whole: bool = False) -> list[Object]:
        """The metadata of every TaskQueue of a namespace, or them whole; of all namespaces if empty.

        A spec that cannot be decoded hides no other. Raises NotFound while their CustomResourceDefinition is not installed.
        """
        try:
            return await self._list(_everywhere(f"/apis/{GROUP}/{VERSION}", namespace, PLURAL), JSON if whole else METADATA_LIST)
        except NotFound as error:  # a namespace that does not exist has an empty list
            raise NotFound(f"the CustomResourceDefinition {PLURAL}.{GROUP} is not installed: install it") from error

    async def deployments(self, namespace: str = "") -> list[Object]:
        """Every Deployment with our label of a namespace; of all if empty."""
        found = await self._list(_everywhere("/apis/apps/v1", namespace, "deployments"), labelSelector=QUEUE_LABEL)
        return [{"apiVersion": "apps/v1", "kind": "Deployment", **each} for each in found]  # which items of a list leave out

    async def task_queue(self, ref: Ref) -> Object:
        """The TaskQueue. One that is nested too deeply to be decoded has no `spec`."""
        return await self._call("GET", _task_queue(ref))

    async def write_status(self, ref: Ref, uid: str, version: str, status: Object) -> Object:
        """Replace the status of the TaskQueue with this UID. Conflict if it is no longer at this resourceVersion."""
        steps = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": status},
        ]
        return await self._call("PATCH", f"{_task_queue(ref)}/status", steps, {"fieldManager": FIELD_MANAGER}, STEPS)

    async def set_finalizers(self, ref: Ref, uid: str, before: Sequence[str], after: Sequence[str]) -> None:
        """Replace the finalizers of the TaskQueue with this UID. Conflict if they are no longer those of `before`."""
        await self._replace(_task_queue(ref), uid, "finalizers", before, after)

    async def set_owners(self, ref: Ref, uid: str, before: Sequence[Object], after: Sequence[Object]) -> None:
        """Replace the owner references of the Deployment with this UID. Conflict if they are no longer those of `before`."""
        await self._replace(_deployment(ref), uid, "ownerReferences", before, after)

    async def deployment(self, ref: Ref) -> Object:
        """The workers' Deployment by name; it may belong to another owner."""
        return await self._call("GET", _deployment(ref))

    async def objects(self, resource: Resource, namespace: str, name: str = "") -> list[Object]:
        """Those with our label in a namespace, in all if empty; or the one of this name. NotFound if the kind is not installed."""
        selected = {"fieldSelector": f"metadata.name={name}"} if name else {"labelSelector": QUEUE_LABEL}
        return await self._list(_everywhere(resource.api, namespace, resource.plural), **selected)

    async def create(self, resource: Resource, namespace: str, manifest: Object) -> Object:
        """Conflict if one of that name exists. NotFound if the kind is not installed."""
        path = _in_namespace(resource.api, namespace, resource.plural)
        return await self._call("POST", path, manifest, {"fieldManager": FIELD_MANAGER})

    async def apply(self, resource: Resource, namespace: str, uid: str, manifest: Object, version: str = "") -> Object:
        """Server-side apply on the object with this UID. Conflict if it was replaced, or is no longer at this resourceVersion."""
        path = _in_namespace(resource.api, namespace, resource.plural, manifest["metadata"]["name"])
        body = {**manifest, "metadata": {**manifest["metadata"], "uid": uid, **({"resourceVersion": version} if version else {})}}
        return await self._call("PATCH", path, body, {"fieldManager": FIELD_MANAGER, "force": "true"}, APPLY)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this UID. Conflict if it was replaced."""
        await self._call("DELETE", _in_namespace(resource.api, namespace, resource.plural, name), {"preconditions": {"uid": uid}})

    async def set_managed_fields(self, ref: Ref, version: str, fields: list[Object]) -> Object:
        """Replace who owns the fields of the Deployment. Conflict if it is no longer at this resourceVersion."""
        values = {"managedFields": fields, "resourceVersion": version}
        steps = [{"op": "replace", "path": f"/metadata/{name}", "value": value} for name, value in values.items()]
        return await self._call("PATCH", _deployment(ref), steps, {"fieldManager": FIELD_MANAGER}, STEPS)

    async def scale_deployment(self, ref: Ref, uid: str, before: int, replicas: int) -> None:
        """Change the replicas of the Deployment with this UID from one number to another. Conflict if it was replaced or scaled.

        The cluster's controllers write its status at the same time, which is tried again.
        """
        for _ in range(SCALE_ATTEMPTS):
            found = await self.deployment(ref)
            if found["metadata"]["uid"] != uid or found["spec"].get("replicas", 1) != before:
                raise KubernetesConflict("the Deployment was replaced, or scaled by another")
            known = {"uid": uid, "resourceVersion": found["metadata"]["resourceVersion"]}
            body = {"metadata": known, "spec": {"replicas": replicas}}
            with contextlib.suppress(KubernetesConflict):
                await self._call("PATCH", f"{_deployment(ref)}/scale", body, {"fieldManager": FIELD_MANAGER}, MERGE)
                return
        raise KubernetesConflict("the Deployment changes too often to be scaled")

    async def scale_to_zero(self, namespace: str, name: str) -> dict[str, str]:
        """Set the replicas of a Deployment to 0. Returns the labels of its pods."""
        path = _in_namespace("/apis/apps/v1", namespace, "deployments", name)
        await self._call("PATCH", f"{path}/scale", {"spec": {"replicas": 0}}, {"fieldManager": FIELD_MANAGER}, MERGE)
        return dict((await self._call("GET", path))["spec"]["selector"]["matchLabels"])

    async def pods(self, ref: Ref) -> list[Object]:
        """The worker pods of a TaskQueue."""
        return await self.pods_with(ref.namespace, selector_text(ref))

    async def pods_with(self, namespace: str, selector: str) -> list[Object]:
        """The pods that a label selector chooses."""
        return await self._list(_in_namespace("/api/v1", namespace, "pods"), labelSelector=selector)

    async def secret(self, namespace: str, name: str) -> Secret:
        """The Secret."""
        return _secret(await self._call("GET", _in_namespace("/api/v1", namespace, "secrets", name)))

    async def create_secret(self, namespace: str, manifest: Object) -> Secret:
        """Conflict if one of that name exists."""
        path = _in_namespace("/api/v1", namespace, "secrets")
        return _secret(await self._call("POST", path, manifest, {"fieldManager": FIELD_MANAGER}))

    async def config_map(self, namespace: str, name: str) -> ConfigMap:
        """The ConfigMap."""
        found = await self._call("GET", _in_namespace("/api/v1", namespace, "configmaps", name))
        binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        data = binary | {key: value.encode() for key, value in (found.get("data") or {}).items()}
        return ConfigMap(data, found["metadata"]["resourceVersion"])

    async def config_version(self, plural: str, namespace: str, name: str) -> str:
        """The resourceVersion of a Secret or a ConfigMap, from the API server's cache: it may be some milliseconds old."""
        path = _in_namespace("/api/v1", namespace, plural, name)
        found = await self._call("GET", path, query={"resourceVersion": "0"}, accept=METADATA)
        return str(found["metadata"]["resourceVersion"])

    async def create_event(self, namespace: str, event: Object) -> None:
        """Create an Event, as `kubectl describe` shows it."""
        await self._call("POST", _in_namespace("/apis/events.k8s.io/v1", namespace, "events"), event)

    async def lease(self, namespace: str, name: str) -> Object:
        """The Lease."""
        return await self._call("GET", _lease(namespace, name))

    async def create_lease(self, lease: Object) -> Object:
        """Conflict if it exists."""
        return await self._call("POST", _lease(lease["metadata"]["namespace"]), lease)

    async def replace_lease(self, lease: Object) -> Object:
        """Conflict if it is no longer at this resourceVersion."""
        return await self._call("PUT", _lease(lease["metadata"]["namespace"], lease["metadata"]["name"]), lease)

    async def _replace(self, path: str, uid: str, field: str, before: Sequence[Any], after: Sequence[Any]) -> None:
        at = f"/metadata/{field}"
        steps: list[Object] = [{"op": "test", "path": "/metadata/uid", "value": uid}]
        steps.append({"op": "test", "path": at, "value": list(before) or None})  # what is missing equals null
        steps.append({"op": "add", "path": at, "value": list(after)})
        await self._call("PATCH", path, steps, {"fieldManager": FIELD_MANAGER}, STEPS)

    async def _list(self, path: str, accept: str = JSON, **query: str) -> list[Object]:
        found: list[Object] = []
        query["limit"] = str(PAGE)
        while True:
            page = await self._call("GET", path, query=query, accept=accept)
            found += page["items"] or []  # an empty list of metadata is null
            if not (token := page["metadata"].get("continue")):
                return found
            query["continue"] = token

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content: str = JSON,
        accept: str = JSON,
    ) -> Object:
        if (left := self._pause_until - self._monotonic()) > 0:
            raise KubernetesBusy(left)
        limit = TIMEOUT if method == "GET" else min(TIMEOUT, self._guard.left())
        try:
            async with asyncio.timeout(limit):
                request = await self._api.param_serialize(
                    method,
                    path,
                    query_params=list((query or {}).items()),
                    header_params={"Accept": accept, "Content-Type": content},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._api.call_api(*request, _request_timeout=TIMEOUT)
                text = await response.read()
        except TimeoutError as error:
            raise KubernetesUnavailable(f"the API server did not answer {method} {path} within {limit:g}s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise KubernetesUnavailable(f"the API server does not answer: {error}") from error
        if response.status in {429, 503} and (pause := retry_after(response.headers)):
            self._pause_until = self._monotonic() + pause
            raise KubernetesBusy(pause)
        if response.status >= 300:
            raise _error(response.status, text)
        return decode(text)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait, 0 without a header; at most `LONGEST_PAUSE`. The API server sends seconds, never a date."""
    text = headers.get("Retry-After", "")
    return min(float(text), LONGEST_PAUSE) if text.isascii() and text.isdigit() else 0.0


def _task_queue(ref: Ref) -> str:
    return _in_namespace(f"/apis/{GROUP}/{VERSION}", ref.namespace, PLURAL, ref.name)


def _deployment(ref: Ref) -> str:
    return _in_namespace("/apis/apps/v1", ref.namespace, "deployments", ref.deployment)


def _lease(namespace: str, name: str | None = None) -> str:
    return _in_namespace("/apis/coordination.k8s.io/v1", namespace, "leases", name)


def _everywhere(api: str, namespace: str, plural: str) -> str:
    return _in_namespace(api, namespace, plural) if namespace else f"{api}/{plural}"


def _in_namespace(api: str, namespace: str, plural: str, name: str | None = None) -> str:
    """The path of a collection, or of one object. Raises KubernetesRefused for a name that could lead elsewhere, as `..` does."""
    names = [namespace] if name is None else [namespace, name]
    if not all(is_object_name(each) for each in names):
        raise KubernetesRefused(f"not the name of an object of {plural}: use lower-case letters, digits, '-' and '.'")
    namespace, *rest = (quote(each, safe="") for each in names)
    return "/".join((api, "namespaces", namespace, plural, *rest))


def _secret(found: Object) -> Secret:
    data = {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    metadata = found["metadata"]
    return Secret(data, metadata.get("labels") or {}, metadata["uid"], metadata["resourceVersion"])


def _error(status: int, text: bytes) -> StokerError:
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):  # from a proxy, or for a path that no API serves
        message = f"HTTP {status}: {text[:200].decode(errors='replace').strip()}"
    match status:
        case 403:
            return KubernetesForbidden(message)
        case 404:
            return NotFound(message)
        case 409:
            return KubernetesConflict(message)
        case 422 if any(words in message for words in _UID_MISMATCH):
            return KubernetesConflict(message)
        case 401 | 408 | 410 | 429:  # 401: the token is being renewed; 410: the list's continue token expired
            return KubernetesUnavailable(message)
        case _ if status <= 500:  # server-side apply also answers 500 for a value it cannot convert
            return KubernetesRefused(message)
        case _:
            return KubernetesUnavailable(message)
