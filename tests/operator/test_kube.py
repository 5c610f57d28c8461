"""What the speaker of Kubernetes promises, against a real API server: exactly this object, or a conflict."""

from collections.abc import AsyncIterator

import pytest

from stoker.errors import NotFound
from stoker_operator.kube import Kube, KubernetesConflict, KubernetesRefused, KubernetesUnavailable, connect
from stoker_operator.state.ref import Ref
from tests.operator.apiserver import ApiServer
from tests.operator.operating import Cluster, unique

STRANGE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def kube(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    connected = await connect()
    yield connected
    await connected.close()


async def test_another_object_of_the_same_name_is_never_written_to(kube: Kube, cluster: Cluster) -> None:
    ref = Ref(cluster.namespace, unique("emails"))
    await cluster.apply(ref.name, suspend=True)
    await cluster.apply(ref.name)
    workers = await cluster.workers(ref.name)
    with pytest.raises(KubernetesConflict):
        await kube.scale_deployment(ref, STRANGE, 3)
    with pytest.raises(KubernetesConflict):
        await kube.apply_deployment(ref, STRANGE, {**workers, "metadata": {"name": ref.deployment, "namespace": ref.namespace}})
    with pytest.raises(KubernetesConflict):
        await kube.write_status(ref, STRANGE, {"replicas": 9})
    with pytest.raises(KubernetesConflict):
        await kube.create_deployment(ref, {"metadata": {"name": ref.deployment}, "spec": workers["spec"]})


async def test_what_is_gone_is_not_made_by_an_apply(kube: Kube, cluster: Cluster) -> None:
    ref = Ref(cluster.namespace, "nobody")
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ref.deployment, "namespace": ref.namespace}}
    with pytest.raises(KubernetesConflict):
        await kube.apply_deployment(ref, STRANGE, manifest)
    with pytest.raises(NotFound):
        await kube.scale_deployment(ref, STRANGE, 3)
    with pytest.raises(NotFound):
        await kube.task_queue(ref)


async def test_long_lists_come_page_by_page(kube: Kube, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker_operator.kube.PAGE", 2)
    for at in range(5):
        await cluster.apply(f"queue-{at}", suspend=True)
    found = await kube.task_queues([cluster.namespace])
    assert sorted(each["metadata"]["name"] for each in found) == [f"queue-{at}" for at in range(5)]


@pytest.mark.parametrize("name", ["../../finance/secrets/stripe", "..", ".", "a/b", "a%2Fb", "Redis", "redis\n", "", "a" * 254])
async def test_a_name_that_would_be_another_path_is_refused_before_any_call(name: str) -> None:
    """The operator reads Secrets with its own rights, by names that the authors of TaskQueues choose."""
    unconnected = Kube(api=None)
    with pytest.raises(KubernetesRefused, match="not the name"):
        await unconnected.secret("shop", name)
    with pytest.raises(KubernetesRefused, match="not the name"):
        await unconnected.secret(name, "redis")
    with pytest.raises(KubernetesRefused, match="not the name"):
        await unconnected.task_queue(Ref("shop", name))
    with pytest.raises(KubernetesRefused, match="not the name"):
        await unconnected.pods(Ref(name, "emails"))


async def test_errors_are_told_apart(kube: Kube, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KubernetesRefused, match="forbidden"):
        await kube._call("GET", "/api/v1/nodes")
    with pytest.raises(KubernetesRefused, match="paused"):
        await kube.create_deployment(Ref(cluster.namespace, "x"), {"metadata": {"name": "x"}, "spec": {"paused": "perhaps"}})
    monkeypatch.setattr("stoker_operator.kube.TIMEOUT", 0.000001)
    with pytest.raises(KubernetesUnavailable, match="did not answer GET"):
        await kube.task_queues([])
