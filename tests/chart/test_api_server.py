"""A real API server takes what the chart and the samples give it, and refuses what could not work, in words."""

import json
import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from stoker.local.manifest_file import load
from stoker.manifest.task_queue import parse
from stoker_operator.reconcile.resources import Connection, deployment
from stoker_operator.state.ref import Owner, Ref
from tests.chart.kubeapi import ApiServer
from tests.chart.rendering import NAMESPACE, ROOT, SAMPLES, Object, render
from tests.operator.rights import RIGHTS

NAMES = count()
OPERATOR = f"system:serviceaccount:{NAMESPACE}:stoker-operator"


def task_queue(spec: Any, name: str = "") -> Object:
    """A TaskQueue, with a name of its own unless one is given."""
    metadata = {"name": name or f"queue-{next(NAMES)}", "namespace": "default"}
    return {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": metadata, "spec": spec}


def applied(server: ApiServer, manifest: Object) -> Object:
    """What the server keeps of it."""
    done = server.kubectl("apply", "-f", "-", "-o", "yaml", given=manifest)
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout))


def refused(server: ApiServer, manifest: Object) -> str:
    """The server's reason."""
    done = server.kubectl("apply", "-f", "-", given=manifest)
    assert done.returncode != 0, f"the server took it: {done.stdout}"
    return done.stderr


def test_kustomize_takes_the_same(installed: ApiServer):
    """`kubectl apply -k k8s`, for those who patch images and replicas on the way."""
    done = installed.kubectl("kustomize", str(ROOT / "k8s"))
    assert done.returncode == 0, done.stderr

    def names(text: str) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(text) if each}

    assert names(done.stdout) == names((ROOT / "k8s" / "install.yaml").read_text())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_means_the_same_in_the_cluster(installed: ApiServer, path: Path):
    (queue,) = load(path)
    stored = applied(installed, yaml.safe_load(path.read_text()))
    assert parse(stored) == replace(queue, namespace="default")  # which a file leaves to kubectl
    assert stored["spec"]["lease"]["maxLost"] == 3  # a default that no sample says


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param({}, "spec.worker: Required value", id="no worker"),
        pytest.param(
            {"worker": {"app": "shop.tasks:app"}},
            "spec.worker.image: Required value: set the image with your application, such as registry.example.org/shop:1.4",
            id="no image",
        ),
        pytest.param(
            {"worker": {"image": "a", "app": "shop"}},
            "spec.worker.app: Invalid value: must be module:attribute, such as shop.tasks:app",
            id="an application without an attribute",
        ),
        pytest.param(
            {"worker": {"image": "a", "taskTimeout": "20m"}},
            "drainTimeout 11m is less than taskTimeout 20m: a scale-down would kill a running task",
            id="a drain shorter than a task",
        ),
        pytest.param(
            {"worker": {"image": "a", "startupTimeout": "0s"}},
            "startupTimeout must be at least 1s, or no worker would start",
            id="no time to start",
        ),
        *(
            pytest.param(
                {"worker": {"image": "a", "template": {"spec": spec}}},
                f"spec.worker.template.spec.{field}: Invalid value: {reason}",
                id=f"a template with {field}",
            )
            for spec, field, reason in (
                ({"hostNetwork": True}, "hostNetwork", "it would open the node"),
                ({"hostPID": True}, "hostPID", "it would open the node"),
                ({"hostIPC": True}, "hostIPC", "it would open the node"),
                ({"nodeName": "node-1"}, "nodeName", "it would pass by the scheduler"),
                ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, "volumes[0].hostPath", "it would open the node"),
                (
                    {"containers": [{"name": "worker", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
                    "containers[0].ports[0].hostPort",
                    "it would open a port of the node",
                ),
                (
                    {"containers": [{"name": "a", "securityContext": {"privileged": True}}]},
                    "containers[0].securityContext.privileged",
                    "Pod Security `restricted` does not allow it",
                ),
                (
                    {"initContainers": [{"name": "a", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
                    "initContainers[0].securityContext.capabilities.add",
                    "workers and their sidecars have no capabilities",
                ),
            )
        ),
        pytest.param(
            {"worker": {"image": "a", "strategy": {"maxSurge": 0}}},
            "spec.worker.strategy.maxUnavailable: Invalid value: must be more than 0 where maxSurge is 0",
            id="a rollout that cannot begin",
        ),
        pytest.param({"worker": {"image": "a", "taskTimeout": "1d"}}, "spec.worker.taskTimeout", id="days where CEL compares"),
        pytest.param(
            {"worker": {"image": "a"}, "scaling": {"minReplicas": 3, "maxReplicas": 2}},
            "spec.scaling.minReplicas: Invalid value: minReplicas is more than maxReplicas",
            id="more at least than at most",
        ),
        pytest.param(
            {"worker": {"image": "a"}, "scaling": {"minReplicas": 21}},
            "minReplicas is more than maxReplicas (which is 20 when left out)",
            id="more at least than the default at most",
        ),
        pytest.param(
            {"worker": {"image": "a"}, "lease": {"duration": "999ms"}},
            "a lease shorter than 1s would expire between two heartbeats",
            id="a lease too short",
        ),
        pytest.param(
            {"worker": {"image": "a"}, "retry": {"jitter": "Half"}},
            'supported values: "Full", "Equal", "Decorrelated", "None"',
            id="an unknown jitter",
        ),
        pytest.param(
            {"worker": {"image": "a"}, "redis": {"namespace": "mail"}},
            "spec.redis.namespace: Invalid value: needs urlSecretRef: only a Redis of your own may hold keys of another namespace",
            id="another namespace in the shared Redis",
        ),
        pytest.param(
            {"worker": {"image": "a", "labels": {"stoker.dev/taskqueue": "other"}}},
            "spec.worker.labels: Invalid value: has a key that the operator sets",
            id="a label that is ours",
        ),
        pytest.param(
            {"worker": {"image": "a", "annotations": {"app.kubernetes.io/managed-by": "me"}}},
            "spec.worker.annotations: Invalid value: has a key that the operator sets",
            id="an annotation that is ours",
        ),
        pytest.param(
            {"worker": {"image": "a", "labels": {"cost center": "7"}}},
            "spec.worker.labels: Invalid value: has a key that is neither a name nor prefix/name",
            id="a label's key with a blank",
        ),
        pytest.param({"worker": {"image": "a", "colour": "red"}}, 'unknown field "spec.worker.colour"', id="an unknown field"),
    ],
)
def test_it_refuses_with_a_reason(installed: ApiServer, spec: Any, reason: str):
    assert reason in refused(installed, task_queue(spec))


def test_the_shortest_drain_that_is_allowed(installed: ApiServer):
    stored = applied(installed, task_queue({"worker": {"image": "a", "taskTimeout": "1.5h", "drainTimeout": "90m"}}))
    assert parse(stored).spec.worker.drain_timeout == parse(stored).spec.worker.task_timeout == 5400


def test_a_long_name_is_refused(installed: ApiServer):
    """It would not fit into the label that every worker pod carries."""
    assert "metadata.name: Too long" in refused(installed, task_queue({"worker": {"image": "a"}}, name="a" * 64))


def test_a_queue_keeps_its_name(installed: ApiServer):
    worker = {"image": "a"}
    applied(installed, task_queue({"worker": worker}, name="steady"))
    for name in ("other", "steady2"):
        assert "spec.queue.name: Invalid value: cannot change" in refused(
            installed, task_queue({"worker": worker, "queue": {"name": name}}, name="steady")
        )
    # Saying what was meant all along changes nothing.
    assert applied(installed, task_queue({"worker": worker, "queue": {"name": "steady"}}, name="steady"))


def test_a_queue_keeps_the_namespace_of_its_keys(installed: ApiServer):
    def queue(**redis: str) -> Object:
        return task_queue({"worker": {"image": "a"}, "redis": {"urlSecretRef": {"name": "redis"}, **redis}}, name="settled")

    applied(installed, queue(namespace="legacy"))
    for other in (queue(), queue(namespace="mail"), task_queue({"worker": {"image": "a"}}, name="settled")):
        assert "spec.redis: Invalid value: namespace cannot change" in refused(installed, other)
    assert applied(installed, queue(namespace="legacy"))


def test_null_means_left_out(installed: ApiServer):
    manifest = task_queue({"worker": {"image": "a"}, "replicas": None, "scaling": {"backlogPerReplica": None, "maxReplicas": None}})
    stored = applied(installed, manifest)
    assert "replicas" not in stored["spec"]
    assert stored["spec"]["scaling"]["maxReplicas"] == 20


def test_null_means_left_out_with_server_side_apply_too(installed: ApiServer):
    """Templates leave nulls in what they render, and GitOps applies it server-side."""
    worker = {"image": "a"}
    spec = {"worker": worker, "rateLimit": None, "scaling": {"backlogPerReplica": None}}
    done = installed.kubectl("apply", "--server-side", "-f", "-", "-o", "json", given=task_queue(spec, name="nothing"))
    assert done.returncode == 0, done.stderr
    assert parse(json.loads(done.stdout)) == parse(task_queue({"worker": worker}, name="nothing"))


def test_labels_and_annotations_of_the_pods_are_taken(installed: ApiServer):
    labels, annotations = {"example.org/team": "payments", "cost": ""}, {"example.org/note": "two words"}
    worker = {"image": "a", "labels": labels, "annotations": annotations}
    stored = parse(applied(installed, task_queue({"worker": worker}, name="labelled"))).spec.worker
    assert (stored.labels, stored.annotations) == (labels, annotations)


def test_kubectl_scale_fixes_the_number_of_workers(installed: ApiServer):
    applied(installed, task_queue({"worker": {"image": "a"}}, name="scaled"))
    done = installed.kubectl("scale", "--replicas=3", "taskqueue/scaled")
    assert done.returncode == 0, done.stderr
    assert installed.kubectl("get", "tq", "scaled", "-o", "jsonpath={.spec.replicas}").stdout == "3"


def test_kubectl_get_shows_how_it_is_going(installed: ApiServer):
    applied(installed, task_queue({"worker": {"image": "a"}}, name="shown"))
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "WorkersReady",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "desiredReplicas": 6,
        "replicas": 5,
        "queue": {"ready": 1234, "running": 40, "oldestWait": "12s", "dead": 7},
        "workers": {"busy": 40},
        "conditions": [ready],
    }
    patch = yaml.safe_dump({"status": status})
    done = installed.kubectl("patch", "tq", "shown", "--subresource=status", "--type=merge", "--patch", patch)
    assert done.returncode == 0, done.stderr
    heads, row = (line.split() for line in installed.kubectl("get", "tq", "shown").stdout.splitlines())
    assert dict(zip(heads, row, strict=True)).items() >= {
        "NAME": "shown",
        "READY": "True",
        "DESIRED": "6",
        "REPLICAS": "5",
        "BUSY": "40",
        "QUEUED": "1234",
        "OLDEST-WAIT": "12s",
        "DEAD": "7",
        "REASON": "WorkersReady",
    }.items()  # fmt: skip
    assert "shown" in installed.kubectl("get", "stoker").stdout


def test_kubectl_explains_every_field(installed: ApiServer):
    said = " ".join(installed.kubectl("explain", "taskqueue.spec.scaling.backlogPerReplica").stdout.split())
    assert "A simple rule in place of slo: one worker pod for so many ready tasks, whatever they take." in said


def pods(objects: list[Object]) -> list[Object]:
    """One pod of every kind that the objects would make."""
    made = []
    for each in objects:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            pod = each["spec"]["template"]
            name = each["metadata"]["name"]
            made.append(
                {**pod, "apiVersion": "v1", "kind": "Pod", "metadata": {**pod["metadata"], "name": name, "namespace": NAMESPACE}}
            )
        elif each["kind"] == "Pod":
            made.append(each)
    return made


def test_a_restricted_namespace_admits_every_pod(installed: ApiServer):
    made = pods(render())
    assert len(made) == 4
    done = installed.kubectl("apply", "--dry-run=server", "-f", "-", given=made)
    assert done.returncode == 0, done.stderr

    made[0]["spec"]["containers"][0]["securityContext"] = {}
    done = installed.kubectl("apply", "--dry-run=server", "-f", "-", given=made[:1])
    assert "violates PodSecurity" in done.stderr


def worker(path: Path) -> Object:
    """The Deployment that the operator makes for a sample."""
    (queue,) = load(path)
    owner = Owner(Ref(NAMESPACE, queue.name), "uid")
    return deployment(replace(queue, namespace=NAMESPACE), owner, Connection("redis://redis:6379/0"))


def test_a_restricted_namespace_admits_a_worker_of_every_sample(installed: ApiServer):
    made = pods([worker(path) for path in SAMPLES])
    assert len(made) == len(SAMPLES)
    done = installed.kubectl("apply", "--dry-run=server", "-f", "-", given=made)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning either


EVERYONE = {"selfsubjectreviews.authentication.k8s.io", "selfsubjectaccessreviews.authorization.k8s.io"}
EVERYONE |= {"selfsubjectrulesreviews.authorization.k8s.io"}


def test_the_operator_may_do_what_the_table_of_its_rights_says_and_nothing_else(installed: ApiServer):
    """As the API server sees it, all its Roles and ClusterRoles together."""
    done = installed.kubectl("auth", "can-i", "--list", "--no-headers", f"--as={OPERATOR}", "--namespace=shop")
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[str, set[str]]] = {}
    for line in done.stdout.splitlines():
        resource = line.split()[0]
        if not resource.startswith("[") and resource not in EVERYONE:  # in brackets: URLs that are no resources
            _, names, verbs = re.findall(r"\[([^\]]*)\]", line)
            found[resource] = (names, set(verbs.split()))
    wanted: dict[str, tuple[str, set[str]]] = {}
    for right in RIGHTS:
        kind, _, part = right.resource.partition("/")
        resource = f"{kind}.{right.group}".rstrip(".") + (f"/{part}" if part else "")
        wanted.setdefault(resource, (right.name, set()))[1].add(right.verb)
    assert found == wanted


def test_the_image_may_be_in_the_template(installed: ApiServer):
    template = {"spec": {"containers": [{"name": "worker", "image": "a"}], "tolerations": [{"operator": "Exists"}]}}
    stored = applied(installed, task_queue({"worker": {"template": template}}))
    assert stored["spec"]["worker"]["template"] == template


def test_the_template_is_explained(installed: ApiServer):
    done = installed.kubectl("explain", "taskqueue.spec.worker.template")
    for words in ("PodTemplateSpec", "sidecars", "STOKER_*", "64 KiB"):
        assert words in " ".join(done.stdout.split())
