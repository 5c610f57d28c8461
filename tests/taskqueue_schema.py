"""The schema of a TaskQueue, as an API server holds manifests to it."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]

Object = dict[str, Any]


def crd() -> Object:
    """The CustomResourceDefinition as the chart holds it."""
    return dict(yaml.safe_load((ROOT / "charts/stoker/files/crd.yaml").read_text()))


def schema() -> Object:
    """The TaskQueue's OpenAPI schema."""
    return dict(crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def strict(node: Object) -> Object:
    """The same schema for jsonschema: closed where an API server with strict decoding is closed."""
    closed = {key: value for key, value in node.items() if not key.startswith("x-kubernetes")}
    if "properties" in node:
        closed["properties"] = {name: strict(child) for name, child in node["properties"].items()}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    if node.get("nullable"):
        closed["type"] = [node["type"], "null"]
    if "items" in node:
        closed["items"] = strict(node["items"])
    return closed
