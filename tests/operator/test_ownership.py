"""A new Deployment passes policies on Deployments, and each of its fields has one owner."""

from typing import Any

import pytest

from stoker_operator.reconcile.ownership import handed_over
from tests.operator.operating import FAST, Cluster, Queues, unique, until

POLICIES = "/apis/admissionregistration.k8s.io/v1"
RULES = {
    "probes": "object.spec.template.spec.containers.all(c, has(c.livenessProbe) && has(c.readinessProbe))",
    "limits": "object.spec.template.spec.containers.all(c, has(c.resources) && has(c.resources.limits) "
    "&& 'memory' in c.resources.limits)",
    "non-root": "has(object.spec.template.spec.securityContext) && has(object.spec.template.spec.securityContext.runAsNonRoot) "
    "&& object.spec.template.spec.securityContext.runAsNonRoot",
}
SPEC: dict[str, Any] = {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:a": {}}}}}


def entry(operation: str, fields: Any, manager: str = "stoker-operator", **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields, **more}


APPLIED = entry("Apply", {"f:spec": {"f:template": {"f:spec": {"f:a": {}, "f:b": {}}}}})
NEW = entry("Apply", {"f:spec": {"f:template": SPEC["f:spec"]["f:template"]}})
BOTH = entry("Apply", {"f:spec": {**APPLIED["fieldsV1"]["f:spec"], "f:a": {}}})
KEPT = entry("Update", {"f:spec": {"f:replicas": {}}})
SCALED = entry("Update", {"f:spec": {"f:replicas": {}}}, subresource="scale")
THEIRS = entry("Update", SPEC, manager="kubectl")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([entry("Update", SPEC)], [KEPT, NEW], id="new"),
        pytest.param([APPLIED, entry("Update", SPEC), THEIRS], [THEIRS, KEPT, APPLIED], id="made by an older version"),
        pytest.param([APPLIED, entry("Update", {"f:spec": {"f:a": {}}}), SCALED], [SCALED, BOTH], id="scaled since"),
        pytest.param([APPLIED, KEPT], None, id="handed over already"),
        pytest.param([APPLIED, SCALED], None, id="scaled"),
        pytest.param([THEIRS], None, id="a stranger's fields are theirs"),
        pytest.param([], None, id="nothing known"),
    ],
)
def test_the_fields_of_the_creation_go_to_the_apply(before: list[Any], after: list[Any] | None) -> None:
    assert handed_over({"metadata": {"managedFields": before}}) == after


async def policy(cluster: Cluster) -> None:
    """No Deployment of the namespace without probes, limits, and a user that is not root."""
    name = cluster.namespace
    validations = [{"expression": expression, "message": f"needs {rule}"} for rule, expression in RULES.items()]
    selector = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}
    constraints = {"resourceRules": [rule], "namespaceSelector": selector}
    spec = {"failurePolicy": "Fail", "matchConstraints": constraints, "validations": validations}
    await cluster.call("POST", f"{POLICIES}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec})
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    await cluster.call("POST", f"{POLICIES}/validatingadmissionpolicybindings", binding)


def bare(name: str) -> dict[str, Any]:
    """What older versions created first."""
    labels = {"app.kubernetes.io/name": "stoker-worker", "stoker.dev/taskqueue": name}
    pod = {"containers": [{"name": "worker", "image": "shop:0", "command": ["old"]}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "metadata": {"name": f"{name}-worker", "labels": {**labels, "app.kubernetes.io/managed-by": "stoker-operator"}},
        "spec": {"paused": True, "replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }


async def owners(cluster: Cluster, name: str) -> dict[tuple[str, str], Any]:
    """The fields of `spec` by operation and subresource, once they are handed over."""

    async def handed() -> Any:
        entries = (await cluster.get("deployments", f"{name}-worker"))["metadata"]["managedFields"]
        found = {(each["operation"], each.get("subresource", "")): each["fieldsV1"].get("f:spec", {}) for each in entries}
        assert ("Apply", "") in found, found
        return found

    return dict(await until(handed))


async def test_a_policy_on_deployments_admits_the_workers(cluster: Cluster, queues: Queues) -> None:
    await policy(cluster)

    async def refused() -> bool:
        reply = await cluster.http.post(cluster.path("deployments") + "?dryRun=All", json=bare("probe"))
        return reply.status_code == 422 and "needs" in reply.text

    await until(refused)
    name = unique("emails")
    worker = {"image": "shop:1", "app": "shop:app", "resources": {"limits": {"memory": "256Mi"}}}
    await cluster.apply(name, worker=worker, scaling={**FAST, "minReplicas": 1})
    await cluster.workers(name)
    found = await owners(cluster, name)
    assert found["Update", ""] == {"f:replicas": {}}
    assert "f:replicas" not in found["Apply", ""]
    await queues(name).enqueue(25)
    await cluster.replicas(name, 3)

    limits = {"memory": "256Mi", "cpu": "1"}
    await cluster.apply(name, worker={**worker, "resources": {"limits": limits}}, scaling={**FAST, "minReplicas": 1})
    await cluster.apply(name, worker=worker, scaling={**FAST, "minReplicas": 1})

    async def dropped() -> bool:
        spec = (await cluster.workers(name))["spec"]
        return (
            bool(spec["template"]["spec"]["containers"][0]["resources"] == {"limits": {"memory": "256Mi"}})
            and spec["replicas"] == 3
        )

    await until(dropped)


async def test_fields_that_an_older_version_kept_go_and_replicas_stay(cluster: Cluster) -> None:
    name = unique("emails")
    path = cluster.path("deployments") + "?fieldManager=stoker-operator"
    await cluster.call("POST", path, bare(name))  # nothing controls it: it is taken back
    await cluster.apply(name, replicas=2)
    found = await owners(cluster, name)
    assert found["Update", ""] == {"f:replicas": {}}

    async def right() -> bool:
        spec = (await cluster.workers(name))["spec"]
        return spec["replicas"] == 2 and "command" not in spec["template"]["spec"]["containers"][0]

    await until(right)
