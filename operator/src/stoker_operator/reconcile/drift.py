"""Which fields of a Deployment differ from what the operator sets, and who set them. Pure.

A field is a path of steps as `managedFields` spell them: `f:image`, and `k:{"name":"worker"}` for an item of a list.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stoker_operator.reconcile.merge import KEYS_OF_LIST, key_of
from stoker_operator.reconcile.quantity import QUANTITIES, same_quantity
from stoker_operator.reconcile.resources import TEMPLATE_HASH
from stoker_operator.state.ref import FIELD_MANAGER, Object

Field = tuple[str, ...]
REPLICAS: Field = ("f:spec", "f:replicas")


def drifted(found: Object, wanted: Object) -> bool:
    """Whether a field that we set differs. Fields that others added are theirs.

    The template's digest detects fields that we no longer set. Quantities, which the API server normalizes
    (`1000m` to `1`), are compared as numbers.
    """
    stamp = (found["metadata"].get("annotations") or {}).get(TEMPLATE_HASH)
    return stamp != wanted["metadata"]["annotations"][TEMPLATE_HASH] or next(differences(found, wanted), None) is not None


def differences(found: Any, wanted: Any, at: Field = (), quantity: bool = False) -> Iterator[Field]:
    """The fields of `wanted` that `found` does not have so."""
    if isinstance(wanted, Mapping):
        of = found if isinstance(found, Mapping) else {}
        for key, value in wanted.items():
            yield from differences(of.get(key), value, (*at, f"f:{key}"), quantity or key in QUANTITIES)
    elif isinstance(wanted, list) and wanted and isinstance(wanted[0], Mapping):
        for index, item in enumerate(wanted):
            keys = _keys(at, item)
            yield from differences(_counterpart(found, item, index, keys), item, (*at, _step(item, index, keys)))
    # The API server leaves out what is false or empty.
    elif not (same_quantity(found, wanted) if quantity else found == wanted or (not found and not wanted)):
        yield at


def setters(found: Object, field: Field) -> tuple[str, ...]:
    """The managers, other than the operator, that set the field; the last one first. More than one may have set the same value."""
    entries = sorted(found["metadata"].get("managedFields") or (), key=lambda entry: str(entry.get("time", "")), reverse=True)
    own = [entry for entry in entries if entry.get("subresource") != "status" and _holds(entry.get("fieldsV1") or {}, field)]
    names = [str(entry.get("manager", "")) for entry in own]
    return tuple(dict.fromkeys(name for name in names if name != FIELD_MANAGER))


def spelled(field: Field) -> str:
    """As people write it: `spec.template.spec.containers[worker].image`."""
    text = ""
    for step in field:
        kind, _, name = step.partition(":")
        text += f".{name}" if kind == "f" else f"[{next(iter(json.loads(name).values()))}]" if kind == "k" else f"[{name}]"
    return text.lstrip(".")


def _holds(fields: Mapping[str, Any], field: Field) -> bool:
    """Whether a set of fields has this one. A set that ends above it has all below, as of a list that is replaced as a whole."""
    within: Any = fields
    for depth, step in enumerate(field):
        if step not in within:
            return depth > 0 and not within
        within = within[step]
    return True


def _keys(at: Field, item: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that tell the items of the list at this field apart; empty if their places do."""
    keys = KEYS_OF_LIST.get(at[-1].removeprefix("f:"), ()) if at else ()
    return tuple(name for name in keys if name in item)


def _step(item: Mapping[str, Any], index: int, keys: tuple[str, ...]) -> str:
    return "k:" + json.dumps({name: item[name] for name in keys}, separators=(",", ":")) if keys else f"i:{index}"


def _counterpart(found: Any, item: Mapping[str, Any], at: int, keys: tuple[str, ...]) -> Any:
    if not isinstance(found, list):
        return None
    if keys:
        return next((other for other in found if isinstance(other, Mapping) and key_of(other, keys) == key_of(item, keys)), None)
    return found[at] if at < len(found) else None
