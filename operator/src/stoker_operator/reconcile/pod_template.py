"""`spec.worker.template` over the operator's pod template: what it may say (pod_fields.py), and the result (merge.py). Pure.

Ours wins for labels and annotations that the operator sets, and for the variables, the port and the probes of the worker container.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from stoker.manifest.task_queue import GROUP
from stoker_operator.reconcile import pod_fields as fields
from stoker_operator.reconcile.merge import MERGE_KEYS, key_of, merged, without_nulls
from stoker_operator.reconcile.pod_security import check_annotations, check_security
from stoker_operator.reconcile.refused import check_names, mapping, objects, refuse
from stoker_operator.state.ref import Object

WORKER = "worker"
"""The name of the worker's container."""
MAX_BYTES = 65_536
MAX_DEPTH = 32
TEMPLATE_ENV, POD_NAME = "STOKER_TEMPLATE", "POD_NAME"
"""Variables that the operator adds."""
_PREFIX = "STOKER_"
_PORT = MERGE_KEYS["spec.containers.ports"]
_AT = "spec.worker.template"
_HANDLERS = ("httpGet", "tcpSocket")


def check_template(template: Mapping[str, Any], *, tokens: bool) -> None:
    """Raises Invalid naming the field and the reason. `tokens`: whether pods may have tokens of service accounts."""
    check_size(template)
    template = without_nulls(template)
    check_names(_AT, template, fields.TEMPLATE, {})
    metadata = mapping(f"{_AT}.metadata", template.get("metadata", {}))
    check_names(f"{_AT}.metadata", metadata, fields.METADATA, {})
    for name in fields.METADATA:
        _check_texts(f"{_AT}.metadata.{name}", metadata.get(name, {}))
    check_annotations(f"{_AT}.metadata.annotations", metadata.get("annotations", {}))
    _check_pod(f"{_AT}.spec", mapping(f"{_AT}.spec", template.get("spec", {})), tokens)


def check_size(template: Mapping[str, Any]) -> None:
    """Raises Invalid for a template that is too large or too deep to be handled. Never recurses."""
    level: list[Any] = [template]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            break
    else:
        refuse(_AT, f"it is nested deeper than {MAX_DEPTH} levels")
    size = len(json.dumps(template).encode())
    if size > MAX_BYTES:
        refuse(_AT, f"it has {size} bytes, more than {MAX_BYTES}: move what is large to a ConfigMap")


def containers_of(template: Mapping[str, Any], *parts: str) -> Iterator[Mapping[str, Any]]:
    """The containers in these parts of a template, which may be anything; in both without `parts`."""
    spec = template.get("spec")
    for part in parts or ("initContainers", "containers"):
        yield from objects_in(spec, part)


def objects_in(value: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a list in a value that may be anything."""
    found = value.get(name) if isinstance(value, Mapping) else None
    yield from (each for each in (found if isinstance(found, list) else ()) if isinstance(each, Mapping))


def image_of(template: Mapping[str, Any]) -> str:
    """The image of the worker container; empty if it names none."""
    found = (each.get("image") for each in containers_of(template, "containers") if each.get("name") == WORKER)
    return next((image for image in found if isinstance(image, str)), "")


def shaped(ours: Object, template: Mapping[str, Any]) -> Object:
    """Our pod template with a checked one over it; the worker stays its first container."""
    if not template:
        return ours
    result: Object = merged(ours, without_nulls(template))
    for name, values in ours["metadata"].items():
        result["metadata"][name] = {**result["metadata"][name], **values}
    worker, *others = result["spec"]["containers"]
    result["spec"]["containers"] = [_worker(ours["spec"]["containers"][0], worker), *map(_confined, others)]
    # The API server copies the name into the deprecated field, and from there back: whoever owns one alone can never remove it.
    if "serviceAccountName" in result["spec"]:
        result["spec"]["serviceAccount"] = result["spec"]["serviceAccountName"]
    if "initContainers" in result["spec"]:
        result["spec"]["initContainers"] = [_confined(each) for each in result["spec"]["initContainers"]]
    return result


def _worker(ours: Object, found: Object) -> Object:
    fixed = {item["name"]: item for item in ours["env"] if item["name"].startswith(_PREFIX) or item["name"] == POD_NAME}
    ports = {key_of(item, _PORT): item for item in ours["ports"]}
    return {
        **found,
        **{name: ours[name] for name in fields.PROBES},
        "env": [fixed.get(item["name"], item) for item in found["env"] if item["name"] != TEMPLATE_ENV],
        "ports": [ports.get(key_of(item, _PORT), item) for item in found["ports"]],
    }


def _confined(container: Object) -> Object:
    """A sidecar as Pod Security `restricted` wants it; ids and seccomp are those of the pod."""
    least = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {**container, "securityContext": {**least, **container.get("securityContext", {})}}


def _check_pod(at: str, pod: Mapping[str, Any], tokens: bool) -> None:
    allowed = fields.POD | {"automountServiceAccountToken"} if tokens else fields.POD
    check_names(at, pod, allowed, fields.POD_REFUSED)
    check_security(f"{at}.securityContext", pod.get("securityContext", {}), of_pod=True)
    for name in ("hostAliases", "imagePullSecrets", "topologySpreadConstraints"):
        _keyed(f"{at}.{name}", pod.get(name, []), MERGE_KEYS[f"spec.{name}"])
    for path, volume in _keyed(f"{at}.volumes", pod.get("volumes", []), ("name",)):
        _check_volume(path, volume, tokens)
    for path, container in _keyed(f"{at}.containers", pod.get("containers", []), ("name",)):
        worker = container["name"] == WORKER
        _check_container(path, container, fields.CONTAINER, fields.WORKER_REFUSED if worker else fields.CONTAINER_REFUSED)
    for path, container in _keyed(f"{at}.initContainers", pod.get("initContainers", []), ("name",)):
        if container["name"] == WORKER:
            refuse(path, "the worker is no init container")
        _check_container(path, container, fields.INIT_CONTAINER, fields.INIT_REFUSED)
        if container.get("restartPolicy", "Always") != "Always":
            refuse(f"{path}.restartPolicy", "it must be Always, or absent")


def _check_container(at: str, container: Mapping[str, Any], allowed: Collection[str], refused: Mapping[str, str]) -> None:
    check_names(at, container, {*allowed} - refused.keys(), refused)
    check_security(f"{at}.securityContext", container.get("securityContext", {}), of_pod=False)
    for name in ("env", "volumeMounts"):
        _keyed(f"{at}.{name}", container.get(name, []), MERGE_KEYS[f"spec.containers.{name}"])
    for path, port in _keyed(f"{at}.ports", container.get("ports", []), MERGE_KEYS["spec.containers.ports"]):
        if port.get("hostPort"):
            refuse(f"{path}.hostPort", "it would open a port of the node, and keep a second worker from it")
    objects(f"{at}.envFrom", container.get("envFrom", []))
    lifecycle = mapping(f"{at}.lifecycle", container.get("lifecycle", {}))
    hooks = {f"{at}.lifecycle.{name}": hook for name, hook in lifecycle.items()}
    for path, probe in (hooks | {f"{at}.{name}": container.get(name, {}) for name in fields.PROBES}).items():
        for handler in _HANDLERS:
            if mapping(f"{path}.{handler}", mapping(path, probe).get(handler, {})).get("host"):
                refuse(f"{path}.{handler}.host", "the kubelet would connect to any host for it: leave it out")


def _check_volume(at: str, volume: Mapping[str, Any], tokens: bool) -> None:
    check_names(at, volume, fields.VOLUME, fields.VOLUME_REFUSED)
    if len(volume) != 2:
        refuse(at, f"it needs a name and one source: {', '.join(sorted(fields.VOLUME - {'name'}))}")
    projected = mapping(f"{at}.projected", volume.get("projected", {}))
    allowed = fields.PROJECTION | fields.PROJECTION_REFUSED.keys() if tokens else fields.PROJECTION
    for number, source in enumerate(objects(f"{at}.projected.sources", projected.get("sources", []))):
        check_names(f"{at}.projected.sources[{number}]", source, allowed, fields.PROJECTION_REFUSED)


def _keyed(at: str, value: Any, keys: tuple[str, ...]) -> list[tuple[str, Mapping[str, Any]]]:
    """The items of a list that is merged by these keys, each with its path. Refuses items without a key, and two of one key."""
    found: dict[tuple[Any, ...], tuple[str, Mapping[str, Any]]] = {}
    for number, item in enumerate(objects(at, value)):
        key = key_of(item, keys)
        if any(isinstance(part, Mapping | list) or part is None or part == "" for part in key):
            refuse(f"{at}[{number}]", f"it needs {' and '.join(keys)}")
        path = f"{at}[{key[0]}]" if isinstance(key[0], str) and len(key[0]) <= 253 else f"{at}[{number}]"
        if key in found:
            refuse(path, f"two items have this {' and '.join(keys)}")
        found[key] = (path, item)
    return list(found.values())


def _check_texts(at: str, value: Any) -> None:
    for name, text in mapping(at, value).items():
        if not isinstance(text, str):
            refuse(f"{at}.{name}", "it must be a text: put it in quotes")
        if name.startswith(f"{GROUP}/"):
            refuse(f"{at}.{name}", f"{GROUP}/ is the operator's prefix")


def _children(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
