"""The objects beside the workers' Deployment: made, corrected and removed as the TaskQueue asks, and a stranger's left alone."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stoker_operator.cluster_access import connect
from stoker_operator.kube import Kube
from stoker_operator.reconcile.child_keeper import LOOK_SECONDS, ChildKeeper
from stoker_operator.reconcile.children import (
    BUDGETS,
    POD_MONITORS,
    ApplyChild,
    Child,
    ChildAction,
    CreateChild,
    DeleteChild,
    children,
    plan_child,
)
from stoker_operator.state.findings import Findings, Workers
from stoker_operator.state.problem import Problem
from stoker_operator.state.ref import Object, Owner, Ref
from tests.operator.apiserver import ApiServer
from tests.operator.observed import OWNER, REF, task_queue
from tests.operator.operating import Cluster, until

BUDGET = "poddisruptionbudgets"
STRANGER = {"spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "x"}}}}
POD_MONITOR_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "PodMonitor", "listKind": "PodMonitorList", "plural": "podmonitors", "singular": "podmonitor"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def budget(**spec: Any) -> Child:
    return next(each for each in children(task_queue(**spec), OWNER, {}) if each.resource == BUDGETS)


def monitor(**spec: Any) -> Child:
    return next(each for each in children(task_queue(**spec), OWNER, {}) if each.resource == POD_MONITORS)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param({}, True, id="up to twenty workers"),
        pytest.param({"scaling": {"maxReplicas": 1}}, False, id="one at most: its drain protects it"),
        pytest.param({"replicas": 1}, False, id="one"),
        pytest.param({"replicas": 2, "scaling": {"maxReplicas": 1}}, True, id="two, whatever the autoscaler may"),
        pytest.param({"disruption": {"podDisruptionBudget": "Disabled"}}, False, id="not wanted"),
    ],
)
def test_a_budget_where_it_helps(spec: Any, wanted: bool) -> None:
    assert budget(**spec).wanted is wanted
    assert budget(**spec).manifest["spec"]["selector"] == {"matchLabels": REF.selector}


def existing(child: Child, **metadata: Any) -> Object:
    manifest = child.manifest
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "child-1", **metadata}}


OTHER = [{"kind": "TaskQueue", "name": "emails", "uid": "uid-0", "controller": True}]


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        pytest.param(True, None, CreateChild, id="it is missing"),
        pytest.param(False, None, type(None), id="it is neither there nor wanted"),
        pytest.param(True, {}, type(None), id="it is as it should be"),
        pytest.param(False, {}, DeleteChild, id="it is not wanted any more"),
        pytest.param(True, {"labels": {**budget().manifest["metadata"]["labels"], "x": "y"}}, type(None), id="others add labels"),
        pytest.param(True, {"ownerReferences": []}, ApplyChild, id="restored from a backup"),
        pytest.param(True, {"ownerReferences": [], "labels": {}}, Problem, id="a stranger's"),
        pytest.param(False, {"ownerReferences": [], "labels": {}}, type(None), id="a stranger's, whose name is not needed"),
        pytest.param(True, {"ownerReferences": OTHER}, Problem, id="an earlier TaskQueue's"),
        pytest.param(False, {"ownerReferences": OTHER}, type(None), id="an earlier TaskQueue's, not wanted"),
        pytest.param(True, {"deletionTimestamp": "now"}, type(None), id="it goes: the next pass makes another"),
    ],
)
def test_what_to_do(wanted: bool, found: Object | None, expected: type) -> None:
    child = budget() if wanted else budget(replicas=1)
    planned: ChildAction | Problem | None = plan_child(child, None if found is None else existing(child, **found), OWNER)
    assert isinstance(planned, expected)


def test_a_changed_budget_is_put_right() -> None:
    changed = {**existing(budget()), "spec": {**budget().manifest["spec"], "maxUnavailable": 0}}
    assert plan_child(budget(), changed, OWNER) == ApplyChild(budget().manifest, "child-1")


def test_a_pod_monitor_scrapes_the_workers_of_the_queue() -> None:
    child = monitor(observability={"podMonitor": "Enabled"})
    assert child.wanted
    assert not monitor().wanted
    assert child.manifest["spec"]["selector"] == {"matchLabels": REF.selector}
    assert child.manifest["spec"]["podMetricsEndpoints"][0]["port"] == "http"


# On a real API server


async def gone(cluster: Cluster, kind: str, name: str) -> None:
    async def absent() -> bool:
        found = await cluster.call("GET", cluster.path(kind))
        return name not in [each["metadata"]["name"] for each in found["items"]]

    await until(absent)


async def there(cluster: Cluster, kind: str, name: str) -> Any:
    return await until(lambda: cluster.get(kind, name))


async def test_the_budget_of_a_live_queue_follows_its_spec(cluster: Cluster) -> None:
    await cluster.apply("queue")
    made = await there(cluster, BUDGET, "queue-worker")
    assert made["spec"]["maxUnavailable"] == "25%"
    assert made["metadata"]["ownerReferences"][0]["uid"] == (await cluster.get("taskqueues", "queue"))["metadata"]["uid"]

    await cluster.apply("queue", scaling={"maxReplicas": 1})
    await gone(cluster, BUDGET, "queue-worker")
    await cluster.apply("queue", scaling={"maxReplicas": 2})
    await there(cluster, BUDGET, "queue-worker")

    await cluster.patch("taskqueues", "queue", {"metadata": {"labels": {"team": "payments"}}})

    async def labelled() -> bool:
        return (await cluster.get(BUDGET, "queue-worker"))["metadata"]["labels"].get("team") == "payments"

    await until(labelled)
    await cluster.apply("queue", disruption={"podDisruptionBudget": "Disabled"})
    await gone(cluster, BUDGET, "queue-worker")


async def test_a_strangers_budget_is_left_alone_and_said(cluster: Cluster) -> None:
    await cluster.create(BUDGET, {"metadata": {"name": "taken-worker"}, **STRANGER})
    await cluster.apply("taken")
    found = await cluster.condition("taken", "Incomplete", "True", "NameTaken")
    assert "PodDisruptionBudget taken-worker" in found["message"]
    await cluster.condition("taken", "Ready", "True", "ScaledToZero")  # the workers are served all the same
    assert (await cluster.get(BUDGET, "taken-worker"))["spec"]["maxUnavailable"] == 0

    await cluster.delete(BUDGET, "taken-worker")
    await cluster.apply("taken", scaling={"maxReplicas": 5})

    async def ours() -> bool:
        return (await cluster.get(BUDGET, "taken-worker"))["spec"]["maxUnavailable"] == "25%"

    await until(ours)


async def test_a_pod_monitor_needs_its_kind(cluster: Cluster) -> None:
    """The workers run without it, and it is made once the Prometheus Operator is installed."""
    enabled = {"observability": {"podMonitor": "Enabled"}}
    await cluster.apply("watched", **enabled)
    found = await cluster.condition("watched", "Incomplete", "True", "KindMissing")
    assert "podMonitor: Disabled" in found["message"]
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await cluster.call("POST", crds, POD_MONITOR_CRD)
    try:
        await until(lambda: cluster.call("GET", cluster.path("podmonitors")))
        await cluster.apply("watched", scaling={"maxReplicas": 5}, **enabled)
        made = await there(cluster, "podmonitors", "watched-worker")
        assert made["spec"]["selector"]["matchLabels"]["stoker.dev/taskqueue"] == "watched"
        await cluster.apply("watched", scaling={"maxReplicas": 5})
        await gone(cluster, "podmonitors", "watched-worker")
    finally:
        await cluster.call("DELETE", f"{crds}/{POD_MONITOR_CRD['metadata']['name']}")


async def test_the_tracing_of_a_live_queue(cluster: Cluster) -> None:
    await cluster.apply("traced")
    await cluster.workers("traced")
    await cluster.apply("traced", observability={"tracing": {"endpoint": "http://collector:4318", "samplePercent": 25}})
    wanted = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
    }

    async def set_so() -> bool:
        found = await cluster.get("deployments", "traced-worker")
        known = {each["name"]: each.get("value") for each in found["spec"]["template"]["spec"]["containers"][0]["env"]}
        return known.items() >= wanted.items()

    await until(set_so)


@pytest.fixture
async def kube(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    connected = await connect()
    yield connected
    await connected.close()


async def test_what_another_changes_or_deletes_is_put_right_within_minutes(kube: Kube, cluster: Cluster) -> None:
    """By a keeper of the test's own, whose clock it moves."""
    made = await cluster.apply("drift", suspend=True)  # which the operator leaves alone
    now = [0.0]
    keeper = ChildKeeper(kube, (cluster.namespace,), lambda: now[0])
    ref = Ref(cluster.namespace, "drift")
    queue = task_queue()
    workers = Workers("d-1", 0, 0, 0)
    findings = Findings(made["metadata"]["uid"], 1, manifest=queue, workers=workers)
    assert await keeper.keep(ref, made, findings) is None
    name = Owner(ref, "").ref.deployment
    first = await cluster.get(BUDGET, name)
    await cluster.patch(BUDGET, name, {"spec": {"maxUnavailable": 0}})
    assert await keeper.keep(ref, made, findings) is None
    assert (await cluster.get(BUDGET, name))["spec"]["maxUnavailable"] == 0  # not looked at yet

    now[0] = LOOK_SECONDS
    assert await keeper.keep(ref, made, findings) is None
    assert (await cluster.get(BUDGET, name))["spec"]["maxUnavailable"] == "25%"
    await cluster.delete(BUDGET, name)
    now[0] *= 2
    assert await keeper.keep(ref, made, findings) is None
    assert (await cluster.get(BUDGET, name))["metadata"]["uid"] != first["metadata"]["uid"]
