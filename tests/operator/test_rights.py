"""Least privilege: what the operator may do is what it does, and no more. The table is rights.py."""

from pathlib import Path

import pytest

from tests.operator.apiserver import ApiServer, Request
from tests.operator.conftest import namespace_in
from tests.operator.operating import FAST, Cluster, Operator, Queue, running_operator, unique, until
from tests.operator.rights import IN_ROLES, NAMESPACED, RIGHTS, Right, rules
from tests.operator.tenant_operator import namespace_with, settings
from tests.redis_servers import Valkey

FINALIZERS = next(each for each in RIGHTS if not each.recorded)


PAGE = Path(__file__).parents[2] / "docs" / "architecture" / "trust.md"


def test_the_page_on_security_has_each_right_and_what_needs_it() -> None:
    page = PAGE.read_text().partition("## The operator's rights")[2].partition("\n## ")[0]
    assert [line for line in page.splitlines() if line.startswith("| ")][1:] == [_row(each) for each in (*RIGHTS, *IN_ROLES)]


def _row(right: Right) -> str:
    resource = f"`{right.resource}` `{right.name}`" if right.name else f"`{right.resource}`"
    return f"| {f'`{right.group}`' if right.group else 'core'} | {resource} | {right.verb} | {right.why} |"


async def everything_once(cluster: Cluster, redis_url: str) -> None:
    """A TaskQueue through all that the operator asks the API server for. A new request goes here."""
    name = unique("emails")
    await cluster.create("configmaps", {"metadata": {"name": "settings"}, "data": {"COLOUR": "red"}})
    worker = {"image": "shop:1", "app": "shop:app", "envFrom": [{"configMapRef": {"name": "settings"}}]}
    await cluster.apply(name, worker=worker, scaling=FAST)
    await cluster.workers(name)
    queue = Queue(redis_url, cluster.namespace, name)
    await queue.enqueue(25)
    await cluster.replicas(name, 3)
    await cluster.told(name, "ScaledUp")
    await cluster.apply(name, worker={**worker, "image": "shop:2"}, scaling=FAST)
    await until(lambda: _runs(cluster, name, "shop:2"))
    await queue.drain()
    await queue.close()
    await cluster.patch("taskqueues", name, {"metadata": {"labels": {"team": "payments"}}})
    await until(lambda: _labelled(cluster, f"{name}-worker", "payments"))
    beside = {"disruption": {"podDisruptionBudget": "Disabled"}, "observability": {"podMonitor": "Enabled"}}
    await cluster.apply(name, worker={**worker, "image": "shop:2"}, scaling=FAST, **beside)
    await cluster.condition(name, "Incomplete", "True", "KindMissing")
    await cluster.delete("taskqueues", name)


async def _labelled(cluster: Cluster, name: str, team: str) -> bool:
    return bool((await cluster.get("poddisruptionbudgets", name))["metadata"]["labels"].get("team") == team)


async def _runs(cluster: Cluster, name: str, image: str) -> bool:
    found = await cluster.workers(name)
    return bool(found["spec"]["template"]["spec"]["containers"][0]["image"] == image)


def missing(asked: list[Request], rights: tuple[Right, ...]) -> set[tuple[str, str]]:
    """The rights that no request needed."""
    used = {(each.kind, each.verb) for each in asked}
    return {(each.kind, each.verb) for each in rights if each.recorded} - used


@pytest.mark.nightly  # by day: the same in one namespace
async def test_each_right_of_the_operator_is_used_and_each_request_is_granted(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    since = own_api_server.audit.stat().st_size
    async with namespace_in(own_api_server) as cluster:
        with running_operator(own_api_server, shared_valkey.url, tmp_path):
            await everything_once(cluster, shared_valkey.url)
        asked = [each for each in own_api_server.requests(since) if each.user == "operator"]
    assert missing(asked, RIGHTS) == set()
    assert [each for each in asked if each.code == 403] == []
    assert {each.name for each in asked if each.kind == "/namespaces"} == {"kube-system"}


async def test_with_roles_in_some_namespaces_nothing_is_asked_of_the_cluster(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    """Secrets are read by their names; the operator asks for no list of them, and for nothing outside of its namespaces."""
    since = own_api_server.audit.stat().st_size
    async with namespace_with(own_api_server, shared_valkey.url, rules(NAMESPACED)) as cluster:
        with running_operator(own_api_server, shared_valkey.url, tmp_path, **settings(own_api_server, cluster)) as operator:
            await everything_once(cluster, shared_valkey.url)
            assert quiet(operator) == []
        asked = [each for each in own_api_server.requests(since) if each.user == "tenant"]
    assert missing(asked, NAMESPACED) == set()
    assert {each.namespace for each in asked} == {cluster.namespace}
    assert [each for each in asked if each.code == 403] == []
    assert all(each.name for each in asked if (each.kind, each.verb) == ("/secrets", "get"))


def quiet(operator: Operator) -> list[str]:
    """What it complained about."""
    return [line["message"] for line in operator.said() if line["level"] in {"warning", "error"}]


@pytest.mark.nightly
async def test_where_the_api_server_guards_owner_references_a_child_needs_the_right_to_finalize_its_owner(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    without = rules(tuple(each for each in NAMESPACED if each != FINALIZERS))
    async with namespace_with(own_api_server, shared_valkey.url, without) as cluster:
        with running_operator(own_api_server, shared_valkey.url, tmp_path, **settings(own_api_server, cluster)):
            name = unique("emails")
            await cluster.apply(name, scaling=FAST)
            ready = await cluster.condition(name, "Ready", "False", "WorkersRefused")
            assert "cannot set blockOwnerDeletion" in ready["message"]
