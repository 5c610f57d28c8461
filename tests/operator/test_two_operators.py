"""Two operators and one Lease: one works, the other takes over, and a former leader writes nothing more."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.operator.apiserver import ApiServer
from tests.operator.conftest import namespace_in
from tests.operator.kube_proxy import Call, KubeProxy, proxy_to
from tests.operator.operating import FAST, Cluster, until
from tests.operator.operator_forks import Forked, Forker, elected, forking
from tests.redis_servers import Valkey

DURATION = 3.0
"""Seconds of the Lease in these tests; 15 in a cluster."""


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with forking() as running:
        yield running


class Pair:
    """Two candidates, each with a proxy before its API server. `first` leads."""

    def __init__(self, cluster: Cluster, first: Forked, second: Forked, proxies: tuple[KubeProxy, KubeProxy]) -> None:
        self.cluster = cluster
        self.first, self.second = first, second
        self.of_first, self.of_second = proxies

    async def second_leads(self, within: float) -> float:
        """Seconds until then."""
        began = time.monotonic()

        async def leads() -> bool:
            return (await self.second.page("/readyz")).endswith("leading")

        await until(leads, within)
        return time.monotonic() - began

    async def lease(self) -> Any:
        return (await self.cluster.call("GET", lease_path(self.cluster)))["spec"]


def lease_path(cluster: Cluster) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases/stoker-operator"


@pytest.fixture
async def pair(own_api_server: ApiServer, shared_valkey: Valkey, forker: Forker, tmp_path: Path) -> AsyncIterator[Pair]:
    async with candidates(own_api_server, shared_valkey, forker, tmp_path, f"{DURATION:g}s") as made:
        yield made


@asynccontextmanager
async def candidates(server: ApiServer, redis: Valkey, forker: Forker, folder: Path, duration: str) -> AsyncIterator[Pair]:
    async with namespace_in(server) as cluster, proxy_to(server) as one, proxy_to(server) as other:
        started: list[Forked] = []
        for name, proxy in (("first", one), ("second", other)):
            settings = elected(server, cluster.namespace, name, duration)
            (own := folder / name).mkdir()
            started.append(forker.start(proxy.kubeconfig(own), redis.url, own / "log", **settings))
            expected = "ok: leading" if name == "first" else "ok: standby, first_"

            async def plays(operator: Forked = started[-1], text: str = expected) -> bool:
                page = await operator.page("/readyz")
                assert page.startswith(text), (page, operator.log.read_text()[-2000:])
                return True

            await until(plays, 30)
        try:
            yield Pair(cluster, started[0], started[1], (one, other))
        finally:
            for each in started:
                each.kill()


async def scaled_to_three(pair: Pair, redis: Valkey, name: str) -> Any:
    """A TaskQueue at work."""
    await pair.cluster.apply(name, scaling={**FAST, "minReplicas": 3})
    await pair.cluster.workers(name)
    await pair.cluster.replicas(name, 3)
    await pair.cluster.condition(name, "ScalingActive", "True", "Scaling")


async def test_one_leads_and_the_other_takes_over_from_a_killed_one(pair: Pair, shared_valkey: Valkey) -> None:
    await scaled_to_three(pair, shared_valkey, "emails")
    assert "stoker_operator_leader 1.0" in await pair.first.page("/metrics")
    assert "stoker_operator_leader 0.0" in await pair.second.page("/metrics")
    assert await pair.second.page("/livez") == "ok"
    assert not pair.of_second.calls  # the standby writes nothing
    before = await pair.cluster.get("deployments", "emails-worker")

    pair.first.kill()
    await pair.second_leads(within=DURATION + 5)
    lease = await pair.lease()
    assert lease["holderIdentity"].startswith("second_")
    assert lease["leaseTransitions"] == 1

    await pair.cluster.apply("images", scaling=FAST)
    await pair.cluster.workers("images")
    after = await pair.cluster.get("deployments", "emails-worker")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert [call for call in pair.of_second.calls if call[0] == "POST deployments"] == [("POST deployments", 201)]


@pytest.mark.nightly
async def test_a_killed_leader_is_replaced_within_twenty_seconds(
    own_api_server: ApiServer, shared_valkey: Valkey, forker: Forker, tmp_path: Path
) -> None:
    """With the times of a cluster."""
    async with candidates(own_api_server, shared_valkey, forker, tmp_path, "15s") as pair:
        pair.first.kill()
        await pair.second_leads(within=20)


async def test_a_clean_stop_hands_over_at_once(pair: Pair, shared_valkey: Valkey) -> None:
    await scaled_to_three(pair, shared_valkey, "emails")
    pair.first.signal(signal.SIGTERM)
    took = await pair.second_leads(within=DURATION + 5)
    assert took < 3.0, f"{took:.1f}s"
    await asyncio.to_thread(pair.first.kill)
    assert any(line["message"] == "released the lead" for line in pair.first.said())


async def test_a_leader_without_its_api_server_gives_up_and_the_other_takes_over(pair: Pair, shared_valkey: Valkey) -> None:
    await scaled_to_three(pair, shared_valkey, "emails")
    pair.of_first.cut = True
    await pair.second_leads(within=DURATION + 5)

    async def ended() -> bool:
        return not pair.first.alive()

    await until(ended)
    assert any("lost the lead" in line["message"] for line in pair.first.said())


async def test_a_frozen_leader_writes_nothing_when_it_thaws(pair: Pair, shared_valkey: Valkey) -> None:
    await scaled_to_three(pair, shared_valkey, "emails")
    pair.first.signal(signal.SIGSTOP)
    written = len(pair.of_first.calls)
    await pair.cluster.apply("emails", scaling={**FAST, "minReplicas": 4}, worker={"image": "shop:2", "app": "shop:app"})
    await pair.second_leads(within=DURATION + 5)
    await pair.cluster.replicas("emails", 4)

    pair.first.signal(signal.SIGCONT)

    async def ended() -> bool:
        return not pair.first.alive()

    await until(ended)
    assert len(pair.of_first.calls) == written, pair.of_first.calls[written:]
    assert (await pair.lease())["holderIdentity"].startswith("second_")


LATE = {
    "PATCH deployments": {"worker": {"image": "shop:2", "app": "shop:app"}},
    "PATCH deployments/scale": {"scaling": {**FAST, "minReplicas": 2}},
    "PATCH taskqueues/status": {"scaling": {**FAST, "minReplicas": 3, "maxReplicas": 9}},
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.nightly] if kind != "PATCH deployments/scale" else []) for kind in LATE]
)
async def test_a_write_of_a_former_leader_that_arrives_late_is_refused(pair: Pair, shared_valkey: Valkey, kind: str) -> None:
    """The guard has let it pass, and the network holds it: its preconditions stop it at the API server."""
    await scaled_to_three(pair, shared_valkey, "emails")
    held, arrives = asyncio.Event(), asyncio.Event()

    async def hold(call: Call) -> None:
        if call.kind == kind:
            held.set()
            await arrives.wait()

    pair.of_first.before = hold
    await pair.cluster.apply("emails", **{"scaling": {**FAST, "minReplicas": 3}, **LATE[kind]})
    await asyncio.wait_for(held.wait(), 20)
    pair.first.signal(signal.SIGSTOP)  # or it would take its request back in time
    await pair.second_leads(within=DURATION + 5)
    await pair.cluster.apply("emails", scaling={**FAST, "minReplicas": 5}, worker={"image": "shop:3", "app": "shop:app"})
    await pair.cluster.replicas("emails", 5)

    async def shown() -> bool:
        found = (await pair.cluster.get("taskqueues", "emails"))["status"]
        assert (found["observedGeneration"], found["desiredReplicas"]) == (3, 5), found
        return True

    await until(shown)
    count = len(pair.of_first.calls)
    arrives.set()

    async def answered() -> bool:
        return len(pair.of_first.calls) > count

    await until(answered)
    assert pair.of_first.calls[count][1] in (409, 422)
    workers = await pair.cluster.get("deployments", "emails-worker")
    assert workers["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:3"
    assert workers["spec"]["replicas"] == 5
