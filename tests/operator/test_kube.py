"""What the speaker of Kubernetes promises, against a real API server: exactly this object, or a conflict."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio import client

from stoker.errors import NotFound
from stoker_operator.cluster_access import connect
from stoker_operator.decoding import decode
from stoker_operator.kube import (
    Kube,
    KubernetesBusy,
    KubernetesConflict,
    KubernetesRefused,
    KubernetesUnavailable,
    retry_after,
)
from stoker_operator.state.ref import DEPLOYMENTS, Ref
from stoker_operator.state.write_guard import WriteGuard
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
    version = workers["metadata"]["resourceVersion"]
    with pytest.raises(KubernetesConflict):
        await kube.scale_deployment(ref, STRANGE, 0, 3)
    with pytest.raises(KubernetesConflict):
        await kube.apply(DEPLOYMENTS, ref.namespace, STRANGE, {**workers, "metadata": {"name": ref.deployment}}, version)
    with pytest.raises(KubernetesConflict):
        await kube.write_status(ref, STRANGE, (await kube.task_queue(ref))["metadata"]["resourceVersion"], {"replicas": 9})
    with pytest.raises(KubernetesConflict):
        await kube.create(DEPLOYMENTS, ref.namespace, {"metadata": {"name": ref.deployment}, "spec": workers["spec"]})


async def test_what_is_gone_is_not_made_by_an_apply(kube: Kube, cluster: Cluster) -> None:
    ref = Ref(cluster.namespace, "nobody")
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ref.deployment, "namespace": ref.namespace}}
    with pytest.raises(KubernetesConflict):
        await kube.apply(DEPLOYMENTS, ref.namespace, STRANGE, manifest)
    with pytest.raises(NotFound):
        await kube.scale_deployment(ref, STRANGE, 0, 3)
    with pytest.raises(NotFound):
        await kube.task_queue(ref)


async def test_long_lists_come_page_by_page(kube: Kube, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker_operator.kube.PAGE", 2)
    for at in range(5):
        await cluster.apply(f"queue-{at}", suspend=True)
    found = await kube.task_queues(cluster.namespace)
    assert sorted(each["metadata"]["name"] for each in found) == [f"queue-{at}" for at in range(5)]


async def test_a_taskqueue_that_cannot_be_decoded_comes_without_its_spec_and_hides_no_other(kube: Kube, cluster: Cluster) -> None:
    payload: Any = "x"
    for _ in range(900):
        payload = {"a": payload}
    await cluster.apply("deep", suspend=True, schedules=[{"name": "s", "cron": "0 3 * * *", "task": "x", "payload": payload}])
    await cluster.apply("well", suspend=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(700)
    try:
        found = await kube.task_queue(Ref(cluster.namespace, "deep"))
        names = sorted(each["metadata"]["name"] for each in await kube.task_queues(cluster.namespace))
    finally:
        sys.setrecursionlimit(limit)
    assert (found["metadata"]["name"], "spec" in found) == ("deep", False)
    assert names == ["deep", "well"]


def test_what_is_nested_too_deeply_is_cut_and_nothing_else_changes() -> None:
    strange = {
        "metadata": {"name": 'a"}]\\', "x": [1, {"b": "{["}]},
        "items": [{"spec": {"deep": 0}, "metadata": {"name": "well"}}],
    }
    text = json.dumps(strange).encode()
    assert decode(text) == strange
    deep = text.replace(b'{"deep": 0}', b'{"deep": ' + b"[" * 100_000 + b'"]"' + b"]" * 100_000 + b', "after": {}}')
    assert decode(deep) == {**strange, "items": [{"metadata": {"name": "well"}}]}


@pytest.mark.parametrize("name", ["../../finance/secrets/stripe", "..", ".", "a/b", "a%2Fb", "Redis", "redis\n", "", "a" * 254])
async def test_a_name_that_would_be_another_path_is_refused_before_any_call(name: str) -> None:
    """The operator reads Secrets with its own rights, by names that the authors of TaskQueues choose."""
    unconnected = Kube(None, WriteGuard())
    with pytest.raises(KubernetesRefused, match="not the name"):
        await unconnected.secret("shop", name)
    with pytest.raises(KubernetesRefused, match="not the name"):
        await unconnected.secret(name, "redis")
    with pytest.raises(KubernetesRefused, match="not the name"):
        await unconnected.task_queue(Ref("shop", name))
    with pytest.raises(KubernetesRefused, match="not the name"):
        await unconnected.pods(Ref(name, "emails"))


class Busy:
    """Answers every request with 429 or 503, and counts them."""

    def __init__(self, status: int, retry_after: str) -> None:
        self.asked = 0
        self._reply = f"HTTP/1.1 {status} Busy\r\nRetry-After: {retry_after}\r\nContent-Length: 2\r\n\r\n{{}}".encode()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                writer.write(self._reply)
        writer.close()


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_that_the_api_server_asks_for_is_kept(status: int) -> None:
    """For every request: a limit is one of the operator's user. It ends by itself."""
    clock, busy = [0.0], Busy(status, "7")
    async with await asyncio.start_server(busy, "127.0.0.1", 0) as server:
        configuration = client.Configuration(host=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        connected = Kube(client.ApiClient(configuration), WriteGuard(), lambda: clock[-1])
        for now, asked, left in ((100.0, 1, 7.0), (101.0, 1, 6.0), (106.5, 1, 0.5), (107.0, 2, 7.0)):
            clock.append(now)
            with pytest.raises(KubernetesBusy) as busy_until:
                await connected.task_queues()
            assert (busy.asked, busy_until.value.seconds) == (asked, left)
        await connected.close()


@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("0", 0), ("99999", 60), ("", 0), ("-1", 0), ("soon", 0), ("\u0667", 0)])
def test_a_pause_is_a_number_of_seconds_within_bounds(text: str, seconds: float) -> None:
    assert retry_after({"Retry-After": text}) == seconds


async def test_errors_are_told_apart(kube: Kube, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KubernetesRefused, match="forbidden"):
        await kube._call("GET", "/api/v1/nodes")
    with pytest.raises(KubernetesRefused, match="paused"):
        await kube.create(DEPLOYMENTS, cluster.namespace, {"metadata": {"name": "x"}, "spec": {"paused": "perhaps"}})
    monkeypatch.setattr("stoker_operator.kube.TIMEOUT", 0.000001)
    with pytest.raises(KubernetesUnavailable, match="did not answer GET"):
        await kube.task_queues()
