"""A CRD takes what the CRD of each recorded version took: an operator may be one release ahead of it, or behind."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RECORDED = sorted((ROOT / "tests/compat/crds").glob("*.yaml"))
LOWER, HIGHER = ("minimum", "minLength", "minItems", "minProperties"), ("maximum", "maxLength", "maxItems", "maxProperties")
KEPT = ("type", "format", "pattern", "default", "nullable", "x-kubernetes-list-type", "x-kubernetes-list-map-keys")

Schema = dict[str, Any]


def schema(path: Path) -> Schema:
    version = yaml.safe_load(path.read_text())["spec"]["versions"][0]
    return dict(version["schema"]["openAPIV3Schema"])


def narrowed(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """Each way in which `new` refuses, or reads otherwise, what `old` took."""
    for key in KEPT:
        if key in old and old[key] != new.get(key):
            yield f"{path}: {key} was {old[key]!r}, is {new.get(key)!r}"
    yield from (f"{path}: {key} has grown" for key in LOWER if new.get(key, 0) > old.get(key, 0))
    yield from (f"{path}: {key} has shrunk" for key in HIGHER if key in new and new[key] < old.get(key, float("inf")))
    if missing := set(old.get("enum", ())) - set(new.get("enum", old.get("enum", ()))):
        yield f"{path}: {sorted(map(str, missing))} are gone"
    if required := set(new.get("required", ())) - set(old.get("required", ())):
        yield f"{path}: {sorted(required)} are required"
    for name, field in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from narrowed(field, new["properties"][name], f"{path}.{name}")
        else:
            yield f"{path}.{name} is gone"
    for part in ("items", "additionalProperties"):
        if isinstance(old.get(part), dict):
            yield from narrowed(old[part], new.get(part) or {}, f"{path}[]")


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
def test_nothing_that_a_recorded_version_took_is_refused(recorded: Path) -> None:
    assert not list(narrowed(schema(recorded), schema(ROOT / "charts/stoker/files/crd.yaml")))


def _without(field: str) -> Callable[[Schema], object]:
    return lambda spec: spec["properties"].pop(field)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_without("lease"), ".spec.lease is gone"),
        (lambda spec: spec["required"].append("queue"), ".spec: ['queue'] are required"),
        (lambda spec: spec["properties"]["replicas"].update(maximum=10), ".spec.replicas: maximum has shrunk"),
        (lambda spec: spec["properties"]["worker"]["properties"]["userIds"]["enum"].remove("Cluster"), "['Cluster'] are gone"),
        (lambda spec: spec["properties"]["suspend"].update(default=True), ".spec.suspend: default was False, is True"),
        (lambda spec: spec["properties"]["schedules"]["items"]["properties"].pop("cron"), ".spec.schedules[].cron is gone"),
    ],
)
def test_a_narrower_schema_is_found(change: Callable[[Schema], object], found: str) -> None:
    old = schema(ROOT / "charts/stoker/files/crd.yaml")
    new = copy.deepcopy(old)
    change(new["properties"]["spec"])
    assert any(found in each for each in narrowed(old, new))
    assert not list(narrowed(old, old))
