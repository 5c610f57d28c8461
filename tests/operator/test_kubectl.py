"""What people and tools see of a TaskQueue through kubectl and helm: columns, waits, scale, Events."""

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.built_programs import binary
from tests.operator.apiserver import ApiServer
from tests.operator.operating import FAST, Cluster, Queues, unique, until


def _run(api_server: ApiServer, cluster: Cluster, program: list[str], *arguments: str) -> str:
    access = ["--namespace", cluster.namespace]
    done = subprocess.run([*program, *access, *arguments], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def kubectl(api_server: ApiServer, cluster: Cluster, tmp_path: Path) -> Any:
    access = [f"--server={api_server.url}", f"--token={api_server.token}", "--insecure-skip-tls-verify"]
    return partial(_run, api_server, cluster, [binary("kube"), "kubectl", f"--cache-dir={tmp_path}/cache", *access])


@pytest.fixture
def helm(api_server: ApiServer, cluster: Cluster, tmp_path: Path) -> Any:
    access = [f"--kube-apiserver={api_server.url}", f"--kube-token={api_server.token}", "--kube-insecure-skip-tls-verify"]
    return partial(_run, api_server, cluster, [binary("helm"), *access])


def table(text: str) -> dict[str, str]:
    """The only row, by its headings."""
    heads, row = (line.split() for line in text.splitlines())
    return dict(zip(heads, row, strict=True))


async def ready_pods(cluster: Cluster, name: str, ready: int, **more: Any) -> None:
    """What the Deployment's controller reports."""
    generation = (await cluster.workers(name))["metadata"]["generation"]
    counts = {"replicas": ready, "readyReplicas": ready, "updatedReplicas": ready, "availableReplicas": ready}
    body = {"status": {**counts, "observedGeneration": generation, **more}}
    await cluster.patch("deployments", f"{name}-worker", body, "/status")


async def test_columns_waits_scale_and_explanations(cluster: Cluster, queues: Queues, kubectl: Any) -> None:
    """At 0 replicas, and at 2 that a HorizontalPodAutoscaler may count."""
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    kubectl("wait", f"tq/{name}", "--for=condition=Ready", "--timeout=20s")
    kubectl("wait", f"tq/{name}", "--for=condition=Reconciling=False", "--timeout=20s")
    row = table(kubectl("get", "tq", name))
    assert row.items() >= {"READY": "True", "DESIRED": "0", "REPLICAS": "0", "QUEUED": "0", "REASON": "ScaledToZero"}.items()

    kubectl("scale", f"tq/{name}", "--replicas=2")
    await cluster.replicas(name, 2)
    kubectl("wait", f"tq/{name}", "--for=condition=Reconciling=True", "--timeout=20s")
    await ready_pods(cluster, name, 2)
    kubectl("wait", f"tq/{name}", "--for=condition=Reconciling=False", "--timeout=20s")
    kubectl("wait", f"tq/{name}", "--for=condition=Ready", "--timeout=20s")
    await queues(name).enqueue(5)
    assert len((await queues(name).broker.turn([], 3, "w-1")).deliveries) == 3

    async def shows_tasks() -> Any:
        status = (await cluster.get("taskqueues", name))["status"]
        return status["queue"]["running"] == 3 and status

    status = await until(shows_tasks)
    assert status["workers"] == {"busy": 3, "idle": 29, "draining": 0}
    assert status["updatedReplicas"] == 2
    annotations = (await cluster.workers(name))["metadata"]["annotations"]
    assert status["templateHash"] == annotations["stoker.dev/template-hash"]
    row = table(kubectl("get", "tq", name, "-o", "wide"))
    assert row.items() >= {"READY": "True", "REPLICAS": "2", "BUSY": "3", "QUEUED": "2", "DEAD": "0"}.items()
    assert row.items() >= {"REASON": "WorkersReady", "UP-TO-DATE": "2", "DRAINING": "0", "SCHEDULED": "0"}.items()

    scale = await cluster.call("GET", cluster.path("taskqueues", name) + "/scale")
    selector = f"app.kubernetes.io/name=stoker-worker,stoker.dev/taskqueue={name}"
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 2, "selector": selector})
    kubectl("autoscale", f"tq/{name}", "--min=1", "--max=3", "--cpu=50%")  # the object is taken; its controller does not run here
    kubectl("delete", "hpa", name)
    explained = kubectl("explain", "tq", "--recursive")
    assert "deletionPolicy" in explained
    assert "enum: Drain, Delete, Orphan" in explained
    assert "Reason:" in kubectl("describe", "tq", name)


async def test_each_transition_has_one_event(cluster: Cluster, kubectl: Any) -> None:
    """Ready, not ready, ready, not ready for the same reason, ready, deleted; and nothing for what only repeats."""
    name = unique("emails")
    await cluster.apply(name, replicas=1)
    await cluster.workers(name)
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    for _ in range(2):
        await ready_pods(cluster, name, 1, conditions=[])
        await cluster.condition(name, "Ready", "True", "WorkersReady")
        await ready_pods(cluster, name, 0, conditions=[refused])
        await cluster.condition(name, "Ready", "False", "WorkersFailing")
        await ready_pods(cluster, name, 0, conditions=[{**refused, "message": "exceeded quota, still"}])
        await until(lambda: _message(cluster, name, "still"))
    await ready_pods(cluster, name, 1, conditions=[])
    await cluster.condition(name, "Ready", "True", "WorkersReady")
    template = (await cluster.workers(name))["spec"]["template"]
    pod = {"metadata": {"name": f"{name}-1", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    await cluster.create("pods", pod)
    await cluster.delete("taskqueues", name)
    await cluster.condition(name, "Ready", "False", "Deleting")
    await cluster.call("DELETE", cluster.path("pods", f"{name}-1") + "?gracePeriodSeconds=0")
    await cluster.gone(name)
    await cluster.told(name, "WorkersFailing", "Ready", "WorkersFailing", "Ready", "Deleting")
    listed = json.loads(kubectl("events", "--for", f"taskqueue/{name}", "-o", "json"))["items"]
    assert sorted(each["type"] for each in listed) == ["Normal"] * 3 + ["Warning"] * 2


async def _message(cluster: Cluster, name: str, words: str) -> bool:
    return words in (await cluster.condition(name, "Ready", "False", "WorkersFailing"))["message"]


async def test_helm_waits_for_a_taskqueue_of_a_chart(cluster: Cluster, helm: Any, tmp_path: Path) -> None:
    """Its kstatus knows the conditions: it waits for the operator, also at 0 replicas; and for the end of a drain."""
    name = unique("emails")
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "shop", "version": "1.0.0"}))
    spec = {"worker": {"image": "shop:1", "app": "shop:app"}, "scaling": FAST}
    queue = {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": name}, "spec": spec}
    (tmp_path / "templates" / "queue.yaml").write_text(yaml.safe_dump(queue))
    helm("install", "shop", str(tmp_path), "--wait", "--timeout=60s")
    found = (await cluster.get("taskqueues", name))["status"]["conditions"]
    assert {(each["type"], each["status"]) for each in found} >= {("Ready", "True"), ("Reconciling", "False")}
    helm("uninstall", "shop", "--wait", "--timeout=60s")
    await cluster.gone(name, 1)


async def test_what_other_managers_add_to_the_deployment_stays(cluster: Cluster) -> None:
    """Annotations and labels of tools, the sidecar of a mesh, a field of a person: through a new version and a correction."""
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    path = cluster.path("deployments", f"{name}-worker")
    sidecar = {"name": "mesh", "image": "mesh:1", "env": [{"name": "MODE", "value": "x"}]}
    annotated = {"metadata": {"annotations": {"mesh.example.org/injected": "yes"}}}
    added: dict[str, Any] = {
        "backup-tool": {"metadata": {"annotations": {"backup.example.org/keep": "7d"}, "labels": {"cost": "4711"}}},
        "mesh-injector": {"spec": {"template": {**annotated, "spec": {"containers": [sidecar]}}}},
        "kubectl-edit": {"spec": {"minReadySeconds": 7, "template": {"spec": {"priorityClassName": "", "hostname": "named"}}}},
    }
    for manager, body in added.items():
        await cluster.call("PATCH", f"{path}?fieldManager={manager}", body, "application/strategic-merge-patch+json")
    theirs = {"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "theirs:1"}]}}}}
    await cluster.call("PATCH", f"{path}?fieldManager=meddler", theirs, "application/strategic-merge-patch+json")

    async def runs(image: str) -> Any:
        found = await cluster.get("deployments", f"{name}-worker")
        images = {each["name"]: each["image"] for each in found["spec"]["template"]["spec"]["containers"]}
        assert images == {"worker": image, "mesh": "mesh:1"}
        return found

    def theirs_stay(found: Any) -> None:
        metadata, spec = found["metadata"], found["spec"]
        assert metadata["annotations"]["backup.example.org/keep"] == "7d"
        assert metadata["labels"]["cost"] == "4711"
        assert (spec["minReadySeconds"], spec["template"]["spec"]["hostname"]) == (7, "named")
        assert spec["template"]["metadata"]["annotations"]["mesh.example.org/injected"] == "yes"
        [mesh] = [each for each in spec["template"]["spec"]["containers"] if each["name"] == "mesh"]
        assert mesh["env"] == sidecar["env"]

    theirs_stay(await until(lambda: runs("shop:1")))
    await cluster.apply(name, worker={"image": "shop:2", "app": "shop:app"}, scaling=FAST)
    theirs_stay(await until(lambda: runs("shop:2")))
    owners = {each["manager"] for each in (await cluster.workers(name))["metadata"]["managedFields"]}
    assert owners >= {"stoker-operator", *added}
    conditions = (await cluster.get("taskqueues", name))["status"]["conditions"]
    assert "Contested" not in {each["type"] for each in conditions}
