"""A TaskQueue is applied, and its queue is served: workers made, scaled up and down, and kept as the spec says."""

import json
from typing import Any

import httpx

from stoker_operator.reconcile.resources import TEMPLATE_HASH
from tests.operator.operating import FAST, Cluster, Operator, Queues, unique, until


async def test_a_backlog_brings_workers_and_they_leave_when_it_is_drained(cluster: Cluster, queues: Queues) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={**FAST, "maxReplicas": 5})
    await cluster.workers(name)
    await cluster.replicas(name, 0)

    await queues(name).enqueue(35)
    await cluster.replicas(name, 4)
    await cluster.condition(name, "RedisReachable", "True", "Connected")
    await cluster.condition(name, "ScalingActive", "True", "Scaling")
    assert await queues(name).drain() == 35
    await cluster.replicas(name, 0)

    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    await cluster.told(name, "ScaledUp", "ScaledDown")
    status = (await cluster.get("taskqueues", name))["status"]
    assert status["autoscaling"]["lastDecision"] == {"from": 4, "to": 0, "reason": "Idle"}
    assert status["deploymentRef"] == {"name": f"{name}-worker"}
    assert status["observedGeneration"] == 1


async def test_more_than_the_maximum_is_never_asked_for(cluster: Cluster, queues: Queues) -> None:
    name = unique("emails")
    await queues(name).enqueue(100)
    await cluster.apply(name, scaling={**FAST, "maxReplicas": 2})
    await cluster.replicas(name, 2)


async def test_the_workers_belong_to_the_queue_and_run_in_a_restricted_pod(cluster: Cluster) -> None:
    name = unique("emails")
    applied = await cluster.apply(name)
    workers = await cluster.workers(name)
    [owner] = workers["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("TaskQueue", applied["metadata"]["uid"], True)

    pod = {"metadata": {"name": f"{name}-1"}, "spec": workers["spec"]["template"]["spec"]}
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await cluster.call("PATCH", f"/api/v1/namespaces/{cluster.namespace}", labels, "application/merge-patch+json")
    await cluster.create("pods", pod)  # refused unless the pod is as restricted as Kubernetes can ask for


async def test_a_new_queue_starts_with_its_minimum_and_its_first_pods_are_whole(cluster: Cluster) -> None:
    """The Deployment is made paused, with its replicas; only the finished template is let go."""
    name = unique("emails")
    await cluster.apply(name, scaling={"minReplicas": 3})
    workers = await cluster.workers(name)
    assert workers["spec"]["replicas"] == 3
    assert "paused" not in workers["spec"]
    assert workers["spec"]["template"]["spec"]["containers"][0]["args"] == ["worker"]


async def test_replicas_are_never_owned_by_apply(cluster: Cluster, queues: Queues) -> None:
    """Or the next apply, which leaves them out, would reset them to 1."""
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    await queues(name).enqueue(25)
    await cluster.replicas(name, 3)
    await cluster.apply(name, scaling=FAST, worker={"image": "shop:2", "app": "shop:app"})

    async def rolled() -> Any:
        found = await cluster.get("deployments", f"{name}-worker")
        return found if found["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2" else None

    workers = await until(rolled)
    assert workers["spec"]["replicas"] == 3
    fields = {(entry["operation"], entry.get("subresource")): entry["fieldsV1"] for entry in workers["metadata"]["managedFields"]}
    assert "f:replicas" not in fields["Apply", None]["f:spec"]
    assert "f:replicas" in fields["Update", "scale"]["f:spec"]


async def test_a_changed_spec_rolls_the_template_and_what_was_dropped_is_gone(cluster: Cluster) -> None:
    name = unique("emails")
    worker = {"image": "shop:1", "app": "shop:app"}
    extra = {"env": [{"name": "COLOUR", "value": "red"}], "resources": {"limits": {"memory": "256Mi"}}}
    await cluster.apply(name, worker={**worker, **extra})
    before = await cluster.workers(name)
    await cluster.apply(name, worker=worker)

    async def rolled() -> Any:
        found = await cluster.get("deployments", f"{name}-worker")
        changed = found["metadata"]["annotations"][TEMPLATE_HASH] != before["metadata"]["annotations"][TEMPLATE_HASH]
        return found if changed else None

    container = (await until(rolled))["spec"]["template"]["spec"]["containers"][0]
    assert "COLOUR" not in [variable["name"] for variable in container["env"]]
    assert container["resources"] == {"requests": {"cpu": "50m", "memory": "96Mi"}}


async def test_a_deleted_deployment_is_made_again(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    first = await cluster.workers(name)
    await cluster.delete("deployments", f"{name}-worker")

    async def another() -> bool:
        return bool((await cluster.workers(name))["metadata"]["uid"] != first["metadata"]["uid"])

    await until(another)


async def test_what_somebody_changed_by_hand_is_put_right(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={**FAST, "minReplicas": 1})
    workers = await cluster.workers(name)
    containers = workers["spec"]["template"]["spec"]["containers"]
    containers[0]["image"] = "evil:1"
    template = {"spec": {"template": {"spec": {"containers": containers}}, "replicas": 7, "paused": True}}
    await cluster.patch("deployments", f"{name}-worker", template)

    async def corrected() -> bool:
        spec = (await cluster.get("deployments", f"{name}-worker"))["spec"]
        image = spec["template"]["spec"]["containers"][0]["image"]
        return image == "shop:1" and not spec.get("paused")

    await until(corrected)
    await cluster.replicas(name, 1)


async def test_a_fixed_number_of_replicas_switches_the_autoscaler_off(cluster: Cluster, queues: Queues) -> None:
    """`kubectl scale taskqueue` sets it, through the resource's own scale subresource."""
    name = unique("emails")
    await cluster.apply(name, scaling={**FAST, "maxReplicas": 5})
    await cluster.workers(name)
    await cluster.patch("taskqueues", name, {"spec": {"replicas": 6}}, "/scale")
    await cluster.replicas(name, 6)
    fixed = await cluster.condition(name, "ScalingActive", "False", "FixedReplicas")
    assert "more than spec.scaling.maxReplicas, 5" in fixed["message"]
    scale = await cluster.call("GET", cluster.path("taskqueues", name) + "/scale")
    assert scale["spec"]["replicas"] == 6
    assert f"stoker.dev/taskqueue={name}" in scale["status"]["selector"]
    command = f"kubectl patch taskqueue {name} --namespace {cluster.namespace} --type merge -p '"
    body = json.loads(fixed["message"].partition(command)[2].removesuffix("'"))
    await cluster.patch("taskqueues", name, body)
    await cluster.condition(name, "ScalingActive", "True", "Scaling")
    await cluster.replicas(name, 0)


async def test_a_suspended_queue_is_left_alone_and_still_shown(cluster: Cluster, queues: Queues) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    await cluster.apply(name, scaling=FAST, suspend=True, worker={"image": "shop:2"})
    await cluster.condition(name, "Suspended", "True", "Suspended")
    await queues(name).enqueue(25)

    async def shown() -> bool:
        return bool((await cluster.get("taskqueues", name))["status"].get("queue", {}).get("ready") == 25)

    await until(shown)
    spec = (await cluster.get("deployments", f"{name}-worker"))["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (0, "shop:1")

    await cluster.apply(name, scaling=FAST, worker={"image": "shop:1", "app": "shop:app"})
    await cluster.replicas(name, 3)
    conditions = (await cluster.get("taskqueues", name))["status"]["conditions"]
    assert "Suspended" not in [condition["type"] for condition in conditions]


async def test_ready_follows_the_workers(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={"minReplicas": 2})
    workers = await cluster.workers(name)
    await cluster.condition(name, "Ready", "Unknown", "WorkersStarting")
    await cluster.condition(name, "Reconciling", "True", "WorkersStarting")
    status = {"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "observedGeneration": workers["metadata"]["generation"]}
    await cluster.patch("deployments", f"{name}-worker", {"status": status}, "/status")
    ready = await cluster.condition(name, "Ready", "True", "WorkersReady")
    assert ready["message"] == "2 of 2 workers ready"
    status = (await cluster.get("taskqueues", name))["status"]
    assert (status["replicas"], status["readyReplicas"], status["desiredReplicas"]) == (2, 2, 2)


async def test_a_rollout_is_ready_when_the_new_version_is(cluster: Cluster) -> None:
    name = unique("emails")

    async def shows(**status: int) -> None:
        await cluster.patch("deployments", f"{name}-worker", {"status": status}, "/status")

    await cluster.apply(name, scaling={"minReplicas": 2})
    generation = (await cluster.workers(name))["metadata"]["generation"]
    await shows(replicas=2, readyReplicas=2, updatedReplicas=2, observedGeneration=generation)
    await cluster.condition(name, "Ready", "True", "WorkersReady")

    await cluster.apply(name, scaling={"minReplicas": 2}, worker={"image": "shop:2", "app": "shop:app"})
    await cluster.condition(name, "Ready", "Unknown", "RollingOut")  # which the Deployment's controller has not even seen
    await shows(replicas=3, readyReplicas=2, updatedReplicas=1, observedGeneration=generation + 1)
    rolling = await cluster.condition(name, "Reconciling", "True", "RollingOut")

    async def counted() -> bool:
        found = await cluster.condition(name, "Ready", "Unknown", "RollingOut")
        return "1 of 2 workers are of the newest version" in found["message"]

    await until(counted)
    assert rolling["observedGeneration"] == 2
    await shows(replicas=2, readyReplicas=2, updatedReplicas=2, observedGeneration=generation + 1)
    ready = await cluster.condition(name, "Ready", "True", "WorkersReady")
    assert ready["observedGeneration"] == 2


async def test_the_operator_writes_nothing_on_the_resource_itself(cluster: Cluster) -> None:
    """No annotation, and no finalizer but that of a drain."""
    name = unique("emails")
    await cluster.apply(name, deletionPolicy="Delete")
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    metadata = (await cluster.get("taskqueues", name))["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata
    assert metadata["generation"] == 1


async def test_a_quiet_queue_is_not_written_to(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name)
    await cluster.condition(name, "ScalingActive", "True", "Scaling")

    async def settled() -> bool:
        """Several rounds and a resync pass without a write."""
        versions = {(await cluster.get("taskqueues", name))["metadata"]["resourceVersion"] for _ in range(100)}
        return len(versions) == 1

    await until(settled)


async def test_metrics_tell_of_the_queue(cluster: Cluster, queues: Queues, operator: Operator) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    await queues(name).enqueue(12)
    await cluster.replicas(name, 2)
    labels = f'namespace="{cluster.namespace}",queue="{name}"'
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator.port}") as http:
        page = (await http.get("/metrics")).text
        assert f'stoker_queue_tasks{{{labels},state="ready"}} 12.0' in page
        assert f"stoker_scaling_desired_replicas{{{labels}}} 2.0" in page
        assert f"stoker_queue_oldest_ready_age_seconds{{{labels}}}" in page
        assert f"stoker_deduplicated_total{{{labels}}} 0.0" in page
        assert 'stoker_scaling_decisions_total{reason="ScaleUp"}' in page
        assert "stoker_reconcile_duration_seconds_count" in page
        assert "stoker_reconcile_errors_total" in page
        assert (await http.get("/livez")).text == "ok"

        await cluster.delete("taskqueues", name)

        async def forgotten() -> bool:
            return name not in (await http.get("/metrics")).text

        await until(forgotten)
