"""The chart as values: what helm makes of it, and the TaskQueue schema as an API server would apply it."""

import copy
import json
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.built_programs import binary

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "stoker"
SAMPLES = sorted((ROOT / "k8s" / "samples").glob("*.yaml"))
NAMESPACE = "stoker-system"

Object = dict[str, Any]


def helm(*arguments: str, values: Object | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm on the chart's side of things: no cluster is asked."""
    with tempfile.TemporaryDirectory() as home:
        given = Path(home) / "values.yaml"
        given.write_text(json.dumps(values or {}))
        command = [binary("helm"), *arguments, "--values", str(given)]
        environment = {"PATH": os.environ["PATH"], "HOME": home}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def render(values: Object | None = None, release: str = "stoker") -> list[Object]:
    """All objects that an installation with these values has."""
    return copy.deepcopy(_render(json.dumps(values or {}), release))


@cache
def _render(values: str, release: str) -> list[Object]:
    done = helm("template", release, str(CHART), "--namespace", NAMESPACE, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refusal(values: Object) -> str:
    """What helm says about values that it must not take."""
    done = helm("template", "stoker", str(CHART), values=values)
    assert done.returncode != 0, "helm rendered it"
    return done.stderr


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of a kind, by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def defaulted(value: Any, node: Object) -> Any:
    """The value with the schema's defaults filled in, as an API server stores it."""
    if isinstance(value, dict):
        children = node.get("properties", {})
        given = {name: child["default"] for name, child in children.items() if "default" in child} | value
        return {name: defaulted(each, children.get(name, {})) for name, each in given.items()}
    return value
