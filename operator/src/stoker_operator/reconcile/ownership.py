"""Hands the fields of a Deployment that the operator created to its server-side apply, as client-go's csaupgrade does. Pure.

A creation owns what it sends beside the apply, and a field with two owners is not removed when the apply drops it.
`replicas` stays with the creation: an apply that owned it would reset it by leaving it out.
"""

from collections.abc import Mapping
from typing import Any

from stoker_operator.state.ref import FIELD_MANAGER, Object

Fields = dict[str, Any]


def handed_over(found: Object) -> list[Object] | None:
    """The `managedFields` in which all that the operator created belongs to its apply. None if nothing has to change."""
    entries: list[Object] = found["metadata"].get("managedFields") or []
    created = [entry for entry in entries if _is(entry, "Update")]
    if not any(_without_replicas(entry["fieldsV1"]) for entry in created):
        return None
    applied = [entry for entry in entries if _is(entry, "Apply")]
    fields: Fields = {}
    for entry in (*applied, *created):
        fields = _union(fields, entry["fieldsV1"])
    # The entry of the apply keeps its time; without one yet, the creation's.
    owner = {**(applied or created)[0], "operation": "Apply", "fieldsV1": _without_replicas(fields)}
    others = [entry for entry in entries if entry not in created and entry not in applied]
    if any("f:replicas" in entry["fieldsV1"].get("f:spec", {}) for entry in created):
        others.append({**created[0], "fieldsV1": {"f:spec": {"f:replicas": {}}}})
    return [*others, owner]


def _is(entry: Object, operation: str) -> bool:
    ours = entry.get("manager") == FIELD_MANAGER and entry.get("operation") == operation
    return ours and not entry.get("subresource") and isinstance(entry.get("fieldsV1"), dict)


def _without_replicas(fields: Fields) -> Fields:
    spec = {key: value for key, value in fields.get("f:spec", {}).items() if key != "f:replicas"}
    rest = {key: value for key, value in fields.items() if key != "f:spec"}
    return {**rest, "f:spec": spec} if spec else rest


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> Fields:
    return {key: _union(one.get(key, {}), other.get(key, {})) for key in (*one, *(key for key in other if key not in one))}
