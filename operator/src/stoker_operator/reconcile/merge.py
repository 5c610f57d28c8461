"""Strategic merge of pod templates, as `kubectl patch` does it. Pure.

Maps are merged field by field, lists of the table by their keys, other lists are replaced. The table is that of the API server's
OpenAPI (`x-kubernetes-list-map-keys` of PodTemplateSpec); a test compares the two. Source: the Kubernetes page "Update API
objects in place using kubectl patch", and k8s.io/apimachinery/pkg/util/strategicpatch.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stoker_operator.state.ref import Object

_OF_CONTAINERS = {
    "": ("name",),
    ".env": ("name",),
    ".ports": ("containerPort", "protocol"),
    ".resources.claims": ("name",),
    ".volumeDevices": ("devicePath",),
    ".volumeMounts": ("mountPath",),
}
MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    **{f"spec.{part}{field}": keys for part in ("containers", "initContainers") for field, keys in _OF_CONTAINERS.items()},
    "spec.hostAliases": ("ip",),
    "spec.imagePullSecrets": ("name",),
    "spec.resourceClaims": ("name",),
    "spec.resources.claims": ("name",),
    "spec.schedulingGates": ("name",),
    "spec.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "spec.volumes": ("name",),
}
"""List in a pod template > the keys that tell its items apart."""
ONE_OF = frozenset({"spec.resourceClaims", "spec.volumes"})
"""Lists whose items have one of several fields (strategy `retainKeys`): an item keeps no field that its patch does not have."""
KEYS_OF_LIST: Mapping[str, tuple[str, ...]] = {path.rpartition(".")[2]: keys for path, keys in MERGE_KEYS.items()}
"""The same by the list's name alone, which has the same keys wherever it stands."""
_DEFAULTS = {"protocol": "TCP"}


def merged(ours: Any, theirs: Any, path: str = "") -> Any:
    """`theirs` over `ours`, both at `path` of a pod template."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        result = dict(ours)
        for name, value in theirs.items():
            result[name] = merged(ours[name], value, f"{path}.{name}".lstrip(".")) if name in ours else value
        return result
    if isinstance(ours, list) and isinstance(theirs, list) and path in MERGE_KEYS:
        return list(_items(ours, theirs, path))
    return theirs


def key_of(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    """What tells an item of a list apart; None for a key that it lacks."""
    return tuple(item.get(name, _DEFAULTS.get(name)) for name in keys)


def without_nulls(value: Any) -> Any:
    """The value without the fields that are null, which the API server reads as absent."""
    if isinstance(value, Mapping):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def _items(ours: list[Object], theirs: list[Object], path: str) -> Iterator[Object]:
    """Ours in their order, each with its patch, then what is new."""
    keys = MERGE_KEYS[path]
    patches = {key_of(item, keys): item for item in theirs}
    for item in ours:
        patch = patches.pop(key_of(item, keys), None)
        if patch is None:
            yield item
        elif path in ONE_OF:
            yield merged({name: value for name, value in item.items() if name in patch}, patch, path)
        else:
            yield merged(item, patch, path)
    yield from patches.values()
