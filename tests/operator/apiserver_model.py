"""What the API server does to one Deployment, as a pure model: creation, server-side apply with its owners of fields, deletion."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from stoker_operator.reconcile.ownership import handed_over
from stoker_operator.reconcile.plan import Action, Apply, Create, HandOver
from stoker_operator.state.ref import FIELD_MANAGER, Object

Path = tuple[str, ...]


class Server:
    """Has the Deployment, or none. A conflict leaves it as it is, as the operator's next pass finds it."""

    def __init__(self, found: Object | None) -> None:
        self.found = found
        self.writes = 0

    def perform(self, action: Action) -> None:
        """One request."""
        match action:
            case Create(manifest):
                if self.found is None:
                    self.found = made(manifest)
                    self.writes += 1
            case HandOver():
                if self.found is not None and (entries := handed_over(self.found)) is not None:
                    self.found["metadata"]["managedFields"] = entries
                    self.writes += 1
            case Apply(manifest, uid):
                if self.found is not None and self.found["metadata"]["uid"] == uid:
                    self._apply(manifest)
                    self.writes += 1

    def collect(self) -> None:
        """The garbage collector removes what is being deleted."""
        if self.found is not None and "deletionTimestamp" in self.found["metadata"]:
            self.found = None

    def _apply(self, manifest: Object) -> None:
        assert self.found is not None
        entries = self.found["metadata"].get("managedFields") or []
        own = next((each for each in entries if _ours(each)), None)
        others = [each for each in entries if each is not own]
        kept = {path for each in others for path in leaves(each["fieldsV1"])}
        fields = fields_of(_managed(manifest))
        for path in sorted(set(leaves(own["fieldsV1"] if own else {})) - set(leaves(fields)) - kept):
            _remove(self.found, path)
        self.found = merged(self.found, manifest)
        self.found["metadata"]["managedFields"] = [*others, entry("Apply", fields)]
        self.found["metadata"]["generation"] = self.found["metadata"].get("generation", 0) + 1


def made(manifest: Object, operation: str = "Update", uid: str = "made-1") -> Object:
    """The Deployment that a manifest creates."""
    found = copy.deepcopy(manifest)
    owners = [entry(operation, fields_of(_managed(manifest)))]
    found["metadata"] = {**found["metadata"], "uid": uid, "generation": 1, "resourceVersion": "1", "managedFields": owners}
    found["spec"].setdefault("replicas", 1)
    if not found["spec"].get("paused"):  # the API server leaves out what is false
        found["spec"].pop("paused", None)
    return found


def entry(operation: str, fields: Object, manager: str = FIELD_MANAGER) -> Object:
    """One owner of fields."""
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields}


def fields_of(value: Any) -> Object:
    """The fields of a value, as `managedFields` spell them. Items of a list with names are one field each, but for containers."""
    if isinstance(value, Mapping):
        return {f"f:{key}": _list_of(value[key]) if isinstance(value[key], list) else fields_of(value[key]) for key in value}
    return {}


def leaves(fields: Mapping[str, Any], at: Path = ()) -> Iterator[Path]:
    """Every field that has none below it."""
    for step, below in fields.items():
        yield from leaves(below, (*at, step)) if below else [(*at, step)]


def merged(found: Any, wanted: Any) -> Any:
    """Server-side apply: maps and lists with names by key, all else as a whole."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        return {**found, **{key: merged(found.get(key), value) for key, value in wanted.items()}}
    if _named(found) and _named(wanted):
        before = {each["name"]: each for each in found}
        now = {each["name"]: merged(before.get(each["name"]), each) for each in wanted}
        return [*now.values(), *(each for name, each in before.items() if name not in now)]
    return copy.deepcopy(wanted)


def _list_of(items: list[Any]) -> Object:
    if not _named(items):
        return {}
    return {_step(each): fields_of(each) if "image" in each else {} for each in items}


def _step(item: Mapping[str, Any]) -> str:
    return "k:" + json.dumps({"name": item["name"]}, separators=(",", ":"))


def _named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) and "name" in each for each in value)


def _managed(manifest: Object) -> Object:
    metadata = manifest["metadata"]
    kept = ("labels", "annotations", "ownerReferences")
    return {"metadata": {key: metadata[key] for key in kept if key in metadata}, "spec": manifest["spec"]}


def _ours(owner: Object) -> bool:
    return bool(owner["manager"] == FIELD_MANAGER and owner["operation"] == "Apply")


def _remove(found: Any, path: Path) -> None:
    *above, last = path
    for step in above:
        found = _below(found, step)
        if found is None:
            return
    if last.startswith("f:") and isinstance(found, dict):
        found.pop(last[2:], None)
    elif isinstance(found, list):
        found[:] = [each for each in found if _step(each) != last]


def _below(found: Any, step: str) -> Any:
    if step.startswith("f:"):
        return found.get(step[2:]) if isinstance(found, dict) else None
    return next((each for each in found if _step(each) == step), None) if isinstance(found, list) else None
