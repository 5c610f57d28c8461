"""What becomes of a deleted TaskQueue, of its workers, its tasks and its schedules, by its policy; and that it always goes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stoker_operator.cluster_access import connect as connect_kube
from stoker_operator.kube import Kube
from stoker_operator.reconcile.deletion import Deletions
from stoker_operator.reconcile.drain import deletion, drained
from stoker_operator.report.reporter import Reporter
from stoker_operator.state.ref import Ref
from tests.operator.apiserver import ApiServer
from tests.operator.conftest import namespace_in
from tests.operator.operating import FAST, Cluster, Queue, Queues, running_operator, unique, until
from tests.operator.rights import IN_ROLES, NAMESPACED, rules
from tests.operator.tenant_operator import OWN_REDIS, namespace_with, settings
from tests.redis_servers import Valkey

DRAIN = "stoker.dev/drain"
NEVER = {"name": "yearly", "cron": "@yearly", "task": "report"}
NOW = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)


def task_queue(*finalizers: str, deleted: str = "", skip: str = "", **spec: Any) -> dict[str, Any]:
    metadata = {"finalizers": list(finalizers), "annotations": {"stoker.dev/skip-drain": skip}}
    return {"metadata": {**metadata, **({"deletionTimestamp": deleted} if deleted else {})}, "spec": spec}


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        pytest.param(task_queue(DRAIN), "", id="Drain is the default"),
        pytest.param(task_queue(DRAIN, deletionPolicy="Delete"), "spec.deletionPolicy is Delete", id="another policy"),
        pytest.param(task_queue(DRAIN, skip="true"), "annotation stoker.dev/skip-drain is true", id="the annotation"),
        pytest.param(task_queue(DRAIN, skip="false"), "", id="any other value of it"),
        pytest.param(task_queue(DRAIN, "orphan"), "--cascade=orphan", id="the user asks for orphans"),
        pytest.param({"metadata": {"finalizers": [DRAIN]}}, "", id="a spec that cannot be read"),
    ],
)
def test_what_lets_a_taskqueue_go_whatever_its_workers_do(found: Any, cause: str) -> None:
    assert deletion(found, NOW).cause() == cause


@pytest.mark.parametrize(
    ("drain_timeout", "deleted", "known_for", "overdue"),
    [
        pytest.param("1m", "2026-01-01T12:08:16Z", 0.0, False, id="a minute, and 45 s"),
        pytest.param("1m", "2026-01-01T12:08:15Z", 0.0, True, id="and no longer"),
        pytest.param("1m", "2026-01-01T13:00:00Z", 104.0, False, id="an API server whose clock is ahead"),
        pytest.param("1m", "2026-01-01T13:00:00Z", 105.0, True, id="makes no drain longer"),
        pytest.param("nonsense", "2026-01-01T11:58:14Z", 0.0, True, id="without a readable limit it is the default, 11 minutes"),
        pytest.param("nonsense", "2026-01-01T11:58:16Z", 0.0, False, id="and 45 s"),
    ],
)
def test_how_long_a_drain_may_take(drain_timeout: str, deleted: str, known_for: float, overdue: bool) -> None:
    found = task_queue(DRAIN, deleted=deleted, worker={"drainTimeout": drain_timeout})
    assert deletion(found, NOW, known_for).overdue is overdue


@pytest.mark.parametrize(("replicas", "pods", "over"), [(None, 3, True), (0, 0, True), (0, 1, False), (1, 0, False)])
def test_a_drain_is_over_when_no_worker_is_left(replicas: int | None, pods: int, over: bool) -> None:
    assert drained(replicas, pods) is over


async def finalizers(cluster: Cluster, name: str, *wanted: str) -> None:
    async def so() -> bool:
        found = (await cluster.get("taskqueues", name))["metadata"].get("finalizers", [])
        assert found == list(wanted), found
        return True

    await until(so)


async def worker_pod(cluster: Cluster, queue: str, name: str) -> None:
    """A pod of the workers, as their ReplicaSet makes it. It runs until the test deletes it."""
    template = (await cluster.workers(queue))["spec"]["template"]
    await cluster.create("pods", {"metadata": {"name": name, "labels": template["metadata"]["labels"]}, "spec": template["spec"]})
    await cluster.patch("pods", name, {"status": {"phase": "Running"}}, "/status")


async def test_drain_keeps_it_until_its_workers_have_finished(cluster: Cluster, queues: Queues) -> None:
    """Waiting tasks stay in Redis, schedules go, and the queue is free for another TaskQueue."""
    name = unique("emails")
    await cluster.apply(name, replicas=2, schedules=[NEVER])
    await finalizers(cluster, name, DRAIN)
    pods = [f"{name}-1", f"{name}-2"]
    for pod in pods:
        await worker_pod(cluster, name, pod)
    await queues(name).enqueue(3)
    schedules = queues(name).inspector.schedules(name)

    async def scheduled() -> int:
        return len(await schedules.all())

    await until(scheduled)
    uid = (await cluster.get("taskqueues", name))["metadata"]["uid"]
    await cluster.delete("taskqueues", name)
    await cluster.replicas(name, 0)
    ready = await cluster.condition(name, "Ready", "False", "Deleting")
    assert "2 workers finish their tasks, for at most 11m45s since its deletion" in ready["message"]

    # Under the same name nothing else begins meanwhile.
    reply = await cluster.http.post(cluster.path("taskqueues"), json={**task_queue_named(name)})
    assert reply.status_code == 409

    await cluster.call("DELETE", cluster.path("pods", pods[0]) + "?gracePeriodSeconds=0")

    async def one_left() -> bool:
        found = await cluster.condition(name, "Ready", "False", "Deleting")
        return "1 worker finishes its tasks" in found["message"]

    await until(one_left)
    assert (await cluster.get("deployments", f"{name}-worker"))["spec"]["replicas"] == 0, "tasks wait, and no worker is added"
    await cluster.call("DELETE", cluster.path("pods", pods[1]) + "?gracePeriodSeconds=0")
    await cluster.gone(name)
    assert (await queues(name).inspector.stats([name]))[0].ready == 3

    async def unscheduled() -> bool:
        return not await schedules.all()

    await until(unscheduled)
    await cluster.told(name, "Deleting")

    # One of the same name claims the queue. The old Deployment is the garbage collector's, which this cluster does not have.
    await cluster.apply(name, replicas=2)
    taken = await cluster.condition(name, "Ready", "False", "NameTaken")
    assert "controlled by an earlier TaskQueue of this name" in taken["message"]
    assert (await cluster.get("taskqueues", name))["metadata"]["uid"] != uid
    await finalizers(cluster, name)


def task_queue_named(name: str) -> dict[str, Any]:
    spec = {"worker": {"image": "shop:1"}}
    return {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": name}, "spec": spec}


async def test_delete_lets_it_go_at_once(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, replicas=1, deletionPolicy="Delete")
    owners = (await cluster.workers(name))["metadata"]["ownerReferences"]
    assert [(each["kind"], each["blockOwnerDeletion"]) for each in owners] == [("TaskQueue", True)]
    await cluster.condition(name, "Ready", "Unknown", "WorkersStarting")
    await finalizers(cluster, name)
    await cluster.delete("taskqueues", name)
    await cluster.gone(name, 1)


async def test_orphans_go_on_serving_and_are_taken_back(cluster: Cluster, queues: Queues) -> None:
    """Also while no operator runs: a Deployment without an owner is collected by nothing."""
    name = unique("emails")
    await cluster.apply(name, replicas=2, schedules=[NEVER])
    await finalizers(cluster, name, DRAIN)
    await cluster.apply(name, replicas=2, schedules=[NEVER], deletionPolicy="Orphan")
    await finalizers(cluster, name)
    schedules = queues(name).inspector.schedules(name)

    async def disowned() -> Any:
        found = await cluster.workers(name)
        assert "ownerReferences" not in found["metadata"]
        return found if await schedules.all() else None

    before = await until(disowned)
    await cluster.condition(name, "Ready", "Unknown", "WorkersStarting")  # they are still its workers
    await cluster.delete("taskqueues", name)
    await cluster.gone(name, 1)

    # The autoscaler, whose rounds remove schedules of deleted TaskQueues, goes on for its neighbour.
    other = unique("other")
    await cluster.apply(other, scaling=FAST)
    await cluster.condition(other, "Ready", "True", "ScaledToZero")
    after = await cluster.workers(name)
    assert (after["metadata"]["generation"], after["spec"]["replicas"]) == (before["metadata"]["generation"], 2)
    assert [status.name for status in await schedules.all()] == ["yearly"]

    await cluster.apply(name, replicas=2)

    async def owned() -> Any:
        metadata = (await cluster.workers(name))["metadata"]
        return metadata.get("ownerReferences") and "stoker.dev/owner-uid" not in metadata["annotations"]

    await until(owned)
    assert (await cluster.workers(name))["spec"]["template"] == before["spec"]["template"], "no pod is replaced"


Act = Callable[[Cluster, str], Awaitable[Any]]


async def _skip(cluster: Cluster, name: str) -> None:
    await cluster.patch("taskqueues", name, {"metadata": {"annotations": {"stoker.dev/skip-drain": "true"}}})


async def _policy_delete(cluster: Cluster, name: str) -> None:
    await cluster.patch("taskqueues", name, {"spec": {"deletionPolicy": "Delete"}})


async def _policy_orphan(cluster: Cluster, name: str) -> None:
    await cluster.patch("taskqueues", name, {"spec": {"deletionPolicy": "Orphan"}})


async def _by_hand(cluster: Cluster, name: str) -> None:
    await cluster.patch("taskqueues", name, {"metadata": {"finalizers": None}})


async def _no_deployment(cluster: Cluster, name: str) -> None:
    await cluster.delete("deployments", f"{name}-worker")


async def test_every_way_out_of_a_drain(cluster: Cluster) -> None:
    """While a worker goes on for as long as it likes."""
    ways: dict[str, Act] = {
        "skip": _skip,
        "delete": _policy_delete,
        "orphan": _policy_orphan,
        "hand": _by_hand,
        "deployment": _no_deployment,
    }

    async def leave(way: str, act: Act) -> None:
        name = unique(way)
        await cluster.apply(name, replicas=1)
        await finalizers(cluster, name, DRAIN)
        await worker_pod(cluster, name, f"{name}-1")
        await cluster.delete("taskqueues", name)
        await cluster.condition(name, "Ready", "False", "Deleting")
        await act(cluster, name)
        await cluster.gone(name)
        if way == "orphan":
            metadata = (await cluster.get("deployments", f"{name}-worker"))["metadata"]
            assert "ownerReferences" not in metadata, "the garbage collector would end them"

    await asyncio.gather(*(leave(way, act) for way, act in ways.items()))


async def test_the_finalizer_follows_the_policy_of_a_living_taskqueue(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await finalizers(cluster, name, DRAIN)
    await cluster.patch("taskqueues", name, {"metadata": {"finalizers": ["example.org/theirs"]}})
    await finalizers(cluster, name, "example.org/theirs", DRAIN)
    await _skip(cluster, name)
    await finalizers(cluster, name, "example.org/theirs")
    await _by_hand(cluster, name)


async def test_a_deployment_that_cannot_be_scaled_holds_nothing_up(cluster: Cluster) -> None:
    """A policy refuses the write: the garbage collector ends the pods as gracefully."""
    name = unique("emails")
    await cluster.apply(name, replicas=1)
    await finalizers(cluster, name, DRAIN)
    policies = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments/scale"]}
    constraints = {
        "resourceRules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
    }
    spec = {"failurePolicy": "Fail", "matchConstraints": constraints, "validations": [{"expression": "false", "message": "no"}]}
    await cluster.call("POST", f"{policies}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec})
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    await cluster.call("POST", f"{policies}/validatingadmissionpolicybindings", binding)

    async def refused() -> bool:
        path = cluster.path("deployments", f"{name}-worker") + "/scale?dryRun=All"
        reply = await cluster.http.patch(
            path, json={"spec": {"replicas": 4}}, headers={"Content-Type": "application/merge-patch+json"}
        )
        return reply.status_code == 422

    await until(refused)
    await cluster.delete("taskqueues", name)
    await cluster.gone(name)
    assert (await cluster.get("deployments", f"{name}-worker"))["spec"]["replicas"] == 1


async def test_a_redis_that_hangs_holds_nothing_up(cluster: Cluster, shared_valkey: Valkey, silent_redis: str) -> None:
    name = unique("emails")
    await cluster.secret("redis", url=shared_valkey.url)
    await cluster.apply(name, replicas=1, redis={"urlSecretRef": {"name": "redis"}})
    await finalizers(cluster, name, DRAIN)
    await cluster.secret("redis", url=silent_redis)
    await cluster.apply(name, replicas=1, redis={"urlSecretRef": {"name": "redis"}}, retry={"maxRetries": 4})
    await cluster.condition(name, "RedisReachable", "False", "RedisUnreachable")
    await cluster.delete("taskqueues", name)
    await cluster.gone(name)


class Anywhere:
    """Namespaces that stay."""

    def may_hold(self, namespace: str) -> bool:
        return True

    def ends(self, namespace: str) -> bool:
        return False


async def kube_of(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Kube:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    return await connect_kube()


async def test_after_its_time_a_taskqueue_goes_though_nothing_else_can_be_read(
    own_api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when other rights of the operator are gone. With one Event. No operator runs here."""
    now = 0.0
    async with namespace_in(own_api_server) as cluster:
        name = unique("emails")
        ref = Ref(cluster.namespace, name)
        await cluster.apply(name, worker={"image": "shop:1", "taskTimeout": "1s", "drainTimeout": "1s"})
        await cluster.patch("taskqueues", name, {"metadata": {"finalizers": [DRAIN]}})
        await cluster.delete("taskqueues", name)
        found = await cluster.get("taskqueues", name)
        kube = await kube_of(own_api_server, monkeypatch)
        deletions = Deletions(kube, Reporter(kube, "test"), Anywhere(), monotonic=lambda: now)
        try:
            assert await deletions.end(ref, found) is None
            now = 45.9
            assert await deletions.end(ref, found) is None
            now = 46.0
            assert await deletions.end(ref, found) is not None
        finally:
            await kube.close()
        await cluster.gone(name, 1)
        await cluster.told(name, "DrainTimedOut")


async def test_before_a_role_goes_with_its_namespace_its_finalizers_are_taken_away(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    """Kubernetes begins to empty a deleted namespace after five seconds; this cluster never does. Where that cannot be seen
    there are none."""
    name = unique("emails")
    url, blind = shared_valkey.url, rules(tuple(each for each in NAMESPACED if each not in IN_ROLES))
    seeing = namespace_with(own_api_server, url, rules(NAMESPACED))
    async with seeing as cluster, namespace_with(own_api_server, url, blind) as unseen:
        with running_operator(own_api_server, url, tmp_path, **settings(own_api_server, cluster, unseen)) as operator:
            for each in (unseen, cluster):
                await each.apply(name, redis=OWN_REDIS, replicas=1)
                await each.workers(name)
            await finalizers(cluster, name, DRAIN)
            await finalizers(unseen, name)
            await cluster.call("DELETE", f"/api/v1/namespaces/{cluster.namespace}")
            began = time.monotonic()
            await finalizers(cluster, name)
            assert time.monotonic() - began < 5
            warnings = [line["message"] for line in operator.said() if line["message"].startswith("no finalizers")]
            assert len(warnings) == 1


@pytest.mark.nightly
async def test_without_the_right_to_patch_taskqueues_they_are_served_and_the_right_is_named(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    """Also when it is withdrawn while one is deleted: then the condition has the command for people."""
    name, url = unique("emails"), shared_valkey.url
    without = rules(tuple(each for each in NAMESPACED if (each.resource, each.verb) != ("taskqueues", "patch")))
    async with namespace_with(own_api_server, url, without) as cluster:
        with running_operator(own_api_server, url, tmp_path, **settings(own_api_server, cluster)):
            await cluster.apply(name, redis=OWN_REDIS, scaling=FAST)
            await cluster.workers(name)
            ready = await cluster.condition(name, "Ready", "False", "RightMissing")
            assert 'cannot patch resource "taskqueues"' in ready["message"]
            queue = Queue(url, cluster.namespace, name)
            await queue.enqueue(25)
            await cluster.replicas(name, 3)
            await queue.close()

            await cluster.patch("taskqueues", name, {"metadata": {"finalizers": [DRAIN]}})
            await cluster.delete("taskqueues", name)
            await cluster.replicas(name, 0)
            message = (await cluster.condition(name, "Ready", "False", "Deleting"))["message"]
            assert 'cannot patch resource "taskqueues"' in message
            assert f"kubectl patch taskqueue {name} --namespace {cluster.namespace} --type merge" in message
            await _by_hand(cluster, name)
            await cluster.gone(name)
