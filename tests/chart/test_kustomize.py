"""k8s/kustomizeconfig.yaml: kustomize follows a TaskQueue's references to generated Secrets and ConfigMaps, and sets its image."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.built_programs import binary
from tests.chart.rendering import ROOT, Object

QUEUE = {
    "apiVersion": "stoker.dev/v1alpha1",
    "kind": "TaskQueue",
    "metadata": {"name": "emails"},
    "spec": {
        "redis": {"urlSecretRef": {"name": "cache"}},
        "worker": {
            "image": "registry.example.org/shop",
            "env": [
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "cache", "key": "token"}}},
                {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
            ],
            "envFrom": [{"secretRef": {"name": "cache"}}, {"configMapRef": {"name": "settings"}}],
        },
    },
}
KUSTOMIZATION = {
    "namePrefix": "live-",
    "resources": ["queue.yaml"],
    "configurations": ["kustomizeconfig.yaml"],
    "secretGenerator": [{"name": "cache", "literals": ["url=redis://cache:6379/0", "token=t"]}],
    "configMapGenerator": [{"name": "settings", "literals": ["colour=red"]}],
    "images": [{"name": "registry.example.org/shop", "newTag": "1.5"}],
}


@pytest.fixture
def built(tmp_path: Path) -> dict[str, Object]:
    """What kustomize makes of it, by kind."""
    shutil.copy(ROOT / "k8s/kustomizeconfig.yaml", tmp_path)
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump(QUEUE))
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(KUSTOMIZATION))
    done = subprocess.run([binary("kube"), "kubectl", "kustomize", tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}


def test_generated_names_reach_every_reference(built: dict[str, Object]):
    secret, settings = (built[kind]["metadata"]["name"] for kind in ("Secret", "ConfigMap"))
    assert secret.startswith("live-cache-")
    spec = built["TaskQueue"]["spec"]
    variables = [each["valueFrom"] for each in spec["worker"]["env"]]
    assert spec["redis"]["urlSecretRef"]["name"] == variables[0]["secretKeyRef"]["name"] == secret
    assert variables[1]["configMapKeyRef"]["name"] == settings
    assert [each["name"] for source in spec["worker"]["envFrom"] for each in source.values()] == [secret, settings]


def test_an_image_is_set(built: dict[str, Object]):
    assert built["TaskQueue"]["spec"]["worker"]["image"] == "registry.example.org/shop:1.5"
