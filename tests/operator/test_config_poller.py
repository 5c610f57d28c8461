"""Secrets and ConfigMaps that pods read are looked at in turn, within an interval and a budget, once for all TaskQueues."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import NotFound, StokerError
from stoker.manifest.task_queue import TaskQueue, parse
from stoker_operator.kube import KubernetesBusy, KubernetesForbidden, KubernetesUnavailable, Secret
from stoker_operator.reconcile.config_poller import TICK_SECONDS, ConfigObject, ConfigPoller
from stoker_operator.reconcile.connections import Connections
from stoker_operator.reconcile.resources import Connection
from stoker_operator.state.problem import Problem
from stoker_operator.state.ref import Ref
from stoker_operator.work_queue import WorkQueue
from tests.operator.apiserver import RULES, ApiServer
from tests.operator.operating import FAST, running_operator, unique, until
from tests.operator.tenant_operator import OWN_REDIS, namespace_with, settings
from tests.redis_servers import Valkey

EMAILS, IMAGES, BILLS = Ref("shop", "emails"), Ref("shop", "images"), Ref("bank", "bills")
REDIS, TOKENS, THEIRS = (
    ConfigObject("Secret", "shop", "redis"),
    ConfigObject("ConfigMap", "shop", "t"),
    ConfigObject("Secret", "bank", "r"),
)


class Objects:
    """Stands for the API server: versions by object, and how often each was read."""

    def __init__(self, **versions: str | StokerError) -> None:
        self.versions = versions
        self.reads: Counter[str] = Counter()

    async def config_version(self, plural: str, namespace: str, name: str) -> str:
        at = f"{plural}/{namespace}/{name}"
        self.reads[at] += 1
        if isinstance(found := self.versions.get(name, "1"), StokerError):
            raise found
        return found


class Works(WorkQueue):
    def __init__(self) -> None:
        super().__init__()
        self.added: list[Ref] = []

    def add(self, ref: Ref) -> None:
        self.added.append(ref)


class Poll:
    """A poller with a clock that the test moves."""

    def __init__(self, interval: float = 25.0, rate: float = 40.0, **versions: str | StokerError) -> None:
        self.now = 1000.0
        self.objects = Objects(**versions)
        self.work = Works()
        self.poller = ConfigPoller(self.objects, self.work, interval, rate, lambda: self.now)

    async def go_on(self, seconds: float, tick: float = 0.05) -> list[tuple[float, ConfigObject]]:
        """Let time pass, and look at what falls due."""
        looks = []
        until = self.now + seconds
        while self.now < until:
            self.now += tick
            while (due := self.poller.next_due()) is not None:
                looks.append((self.now, due))
                await self.poller.look(due)
        return looks


async def test_only_the_taskqueues_whose_object_has_changed_are_queued() -> None:
    poll = Poll()
    poll.poller.refer(EMAILS, {REDIS: "1", TOKENS: "1"})
    poll.poller.refer(IMAGES, {REDIS: "1"})
    poll.poller.refer(BILLS, {THEIRS: "1"})
    await poll.go_on(26)
    assert not poll.work.added
    assert len(poll.objects.reads) == 3
    assert poll.objects.reads.total() <= 4, "one look at a Secret for both TaskQueues that refer to it"
    poll.objects.versions["t"] = "2"
    await poll.go_on(26)
    assert poll.work.added == [EMAILS]
    poll.objects.versions["redis"] = "2"
    await poll.go_on(26)
    assert sorted(poll.work.added) == [EMAILS, EMAILS, IMAGES]
    await poll.go_on(60)
    assert len(poll.work.added) == 3, "a change is news once"


async def test_what_a_pass_sees_first_is_passed_on_to_the_others() -> None:
    poll = Poll()
    poll.poller.refer(EMAILS, {REDIS: "1"})
    poll.poller.refer(IMAGES, {REDIS: "1"})
    poll.poller.refer(EMAILS, {REDIS: "2"})
    assert poll.work.added == [IMAGES]


@pytest.mark.parametrize("away", [NotFound("gone"), KubernetesForbidden("no")], ids=["missing", "forbidden"])
async def test_an_object_that_comes_and_goes_is_a_change(away: StokerError) -> None:
    poll = Poll(redis=away)
    poll.poller.refer(EMAILS, {REDIS: ""})
    await poll.go_on(60)
    assert not poll.work.added
    poll.objects.versions["redis"] = "7"
    await poll.go_on(26)
    poll.objects.versions["redis"] = away
    await poll.go_on(26)
    assert poll.work.added == [EMAILS, EMAILS]


async def test_an_api_server_that_is_away_changes_nothing_and_a_pause_that_it_asks_for_is_kept() -> None:
    poll = Poll(redis=KubernetesUnavailable("away"))
    poll.poller.refer(EMAILS, {REDIS: "1"})
    await poll.go_on(60)
    poll.objects.versions["redis"] = KubernetesBusy(100.0)
    await poll.go_on(30)
    before = poll.objects.reads.total()
    await poll.go_on(70)
    assert poll.objects.reads.total() == before
    assert not poll.work.added
    poll.objects.versions["redis"] = "2"
    await poll.go_on(60)
    assert poll.work.added == [EMAILS]


class Secrets:
    """Stands for the API server: has the Secrets `shared` and `r`, and no other."""

    async def secret(self, _: str, name: str) -> Secret:
        if name == "missing":
            raise NotFound(name)
        return Secret({"url": b"redis://r", "k": b"1"}, {}, f"uid-{name}", "7")


class Own:
    url = "redis://operators-own"


async def test_a_pass_that_ends_early_is_no_news_for_others_and_theirs_none_for_it() -> None:
    """Two TaskQueues that both read a Secret, one of them after one that is missing, would queue each other for ever."""
    poll = Poll()
    parts: Any = (Secrets(), Own())
    connections = Connections(*parts, poll.poller.refer)
    redis = {"urlSecretRef": {"name": "r"}}

    def reads(name: str, *secrets: str) -> TaskQueue:
        env_from = [{"secretRef": {"name": secret}} for secret in secrets]
        spec = {"redis": redis, "worker": {"image": "shop:1", "app": "shop:app", "envFrom": env_from}}
        metadata = {"name": name, "namespace": "shop"}
        return parse({"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": metadata, "spec": spec})

    for _ in range(3):
        assert isinstance(await connections.of(reads("emails", "missing", "shared")), Problem)
        assert isinstance(await connections.of(reads("images", "shared")), Connection)
    assert not poll.work.added


async def test_what_is_no_longer_read_is_no_longer_looked_at() -> None:
    poll = Poll()
    poll.poller.refer(EMAILS, {REDIS: "1", TOKENS: "1"})
    poll.poller.refer(IMAGES, {REDIS: "1"})
    poll.poller.refer(EMAILS, {REDIS: "1"})
    poll.poller.forget(IMAGES)
    poll.poller.forget(BILLS)
    assert {at for _, at in await poll.go_on(100)} == {REDIS}
    poll.poller.forget(EMAILS)
    assert await poll.go_on(100) == []


@given(st.integers(1, 120), st.sampled_from([5.0, 25.0]), st.sampled_from([1.0, 4.0, 40.0]), st.integers(0, 60))
def test_each_is_looked_at_within_the_interval_and_no_more_often_than_the_rate_allows(
    count: int, interval: float, rate: float, later: int
) -> None:
    """Also those that come later: after them the interval is that of all."""

    async def run() -> None:
        poll = Poll(interval, rate)
        objects = [ConfigObject("Secret", "shop", f"s{number}") for number in range(count + later)]
        seen = dict.fromkeys(objects, 0.0)

        def refer(some: list[ConfigObject]) -> None:
            for each in some:
                poll.poller.refer(Ref("shop", each.name), {each: "1"})
                seen[each] = poll.now

        refer(objects[:count])
        looks = await poll.go_on(interval / 3)
        refer(objects[count:])
        looks += await poll.go_on(2.5 * max(interval, len(objects) / rate))
        longest = max(interval, len(objects) / rate)
        assert poll.poller.interval == longest
        for at, each in looks:
            assert at - seen[each] <= longest + TICK_SECONDS
            seen[each] = at
        assert all(poll.now - at <= longest + TICK_SECONDS for at in seen.values())
        for start, _ in looks:
            assert sum(start <= at < start + 1 for at, _ in looks) <= max(rate, len(objects) / interval) + 2

    asyncio.run(run())


async def test_the_loop_looks_and_says_that_it_lives() -> None:
    poll = Poll(interval=0.05)
    poll.poller = ConfigPoller(poll.objects, poll.work, 0.05, 1000.0)
    rounds = []
    running = asyncio.create_task(poll.poller.run(lambda: rounds.append(1)))
    poll.poller.refer(EMAILS, {REDIS: "1"})
    poll.objects.versions["redis"] = "2"

    async def queued() -> bool:
        return poll.work.added == [EMAILS]

    await until(queued)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert rounds


@pytest.mark.nightly
async def test_with_the_default_settings_a_change_rolls_the_workers_within_30_seconds(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    async with namespace_with(own_api_server, shared_valkey.url, RULES) as cluster:
        chosen = {**settings(own_api_server, cluster), "STOKER_CONFIG_INTERVAL": "25s"}
        with running_operator(own_api_server, shared_valkey.url, tmp_path, **chosen):
            await cluster.apply(name, redis=OWN_REDIS, scaling=FAST)
            before = await cluster.workers(name)
            await cluster.secret("redis", url=shared_valkey.url + "?socket_timeout=5")

            async def rolled() -> bool:
                return bool((await cluster.workers(name))["spec"]["template"] != before["spec"]["template"])

            await until(rolled, seconds=30)
