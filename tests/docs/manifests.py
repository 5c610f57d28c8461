"""YAML on a page: a TaskQueue (whole, or only its spec), values of the chart, or another object with kind and name."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from stoker.manifest.task_queue import parse
from tests.docs.pages import ROOT
from tests.taskqueue_schema import schema, strict

TASKQUEUE = {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "emails"}}
SMALLEST: dict[str, Any] = {"worker": {"image": "registry.example.org/shop:1.4"}}


def check_manifests(text: str) -> None:
    """Raises what is wrong with one of the documents."""
    documents = list(yaml.safe_load_all(text))
    assert documents, "no document"
    for document in documents:
        _check(document)


def _check(document: dict[str, Any]) -> None:
    if document.keys() == {"spec"}:
        document = {**TASKQUEUE, "spec": {**SMALLEST, **document["spec"]}}
    if document.get("kind") == "TaskQueue":
        metadata = {field: value for field, value in document["metadata"].items() if field not in {"labels", "annotations"}}
        jsonschema.validate({**document, "metadata": metadata}, strict(schema()))
        parse(document)
    elif "kind" not in document:
        jsonschema.validate(document, json.loads(Path(ROOT / "charts/stoker/values.schema.json").read_text()))
    else:
        assert document["apiVersion"], "an object without apiVersion"
        assert document["metadata"]["name"], "an object without a name"
