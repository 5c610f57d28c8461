"""Which keys of Secrets and ConfigMaps the workers read, and that a change of these alone rolls them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from stoker_operator.reconcile.config_sources import Content, Kind, Source, config_digest, sources
from tests.operator.apiserver import RULES, ApiServer
from tests.operator.observed import task_queue
from tests.operator.operating import FAST, Cluster, running_operator, unique, until
from tests.operator.tenant_operator import OWN_REDIS, namespace_with, served, settings
from tests.redis_servers import Valkey

WORKER: dict[str, Any] = {
    "image": "shop:1",
    "env": [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k", "optional": True}}},
        {"name": "C", "value": "plain"},
        {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "d", "key": "k"}}},
    ],
    "envFrom": [{"secretRef": {"name": "e"}}, {"configMapRef": {"name": "f", "optional": True}}],
}
READ = sources(task_queue(worker=WORKER, redis={"urlSecretRef": {"name": "r", "key": "url"}}))


def test_all_that_the_pods_read_is_known() -> None:
    assert (
        Source("Secret", "r", "url"),
        Source("Secret", "a", "k"),
        Source("Secret", "b", "k", optional=True),
        Source("ConfigMap", "d", "k"),
        Source("Secret", "e", None),
        Source("ConfigMap", "f", None, optional=True),
    ) == READ


@pytest.mark.parametrize(
    "reference",
    [None, "x", {}, {"name": 7}, {"name": "../secrets/x"}],
)
def test_a_reference_that_the_api_server_will_refuse_is_left_out(reference: Any) -> None:
    worker = {"image": "shop:1", "envFrom": [{"configMapRef": reference}]}
    assert [each.kind for each in sources(task_queue(worker=worker))] == ["Secret"]


def contents(kind: Kind = "Secret", name: str = "r", uid: str = "", **data: bytes) -> dict[tuple[Kind, str], Content]:
    """What is there, with other data in one place."""
    found: dict[tuple[Kind, str], Content] = {
        ("Secret", "r"): Content("1", {"url": b"redis://r", "unread": b"1"}),
        ("Secret", "a"): Content("2", {"k": b"1", "unread": b"1"}),
        ("ConfigMap", "d"): Content("", {"k": b"1", "unread": b"1"}),
        ("Secret", "e"): Content("3", {"k": b"1"}),
        ("ConfigMap", "f"): Content("", {"k": b"1"}),
    }
    before = found.get((kind, name), Content("9", {}))
    return {**found, (kind, name): Content(uid or before.uid, {**before.data, **data})}


@pytest.mark.parametrize(
    ("kind", "name", "data", "rolls"),
    [
        pytest.param("Secret", "r", {"url": b"redis://s"}, True, id="the URL"),
        pytest.param("Secret", "r", {"unread": b"2"}, False, id="beside the URL"),
        pytest.param("Secret", "a", {"k": b"2"}, True, id="a key in env"),
        pytest.param("Secret", "a", {"unread": b"2"}, False, id="a key that no variable reads"),
        pytest.param("Secret", "b", {"k": b"2"}, True, id="an optional Secret that has come"),
        pytest.param("ConfigMap", "d", {"k": b"2"}, True, id="a key of a ConfigMap"),
        pytest.param("ConfigMap", "d", {"unread": b"2"}, False, id="a key of a ConfigMap that no variable reads"),
        pytest.param("Secret", "e", {"new": b"2"}, True, id="a new key of envFrom"),
        pytest.param("ConfigMap", "f", {"k": b"2"}, True, id="a ConfigMap of envFrom"),
        pytest.param("Secret", "z", {"k": b"2"}, False, id="a Secret that is not the pods'"),
    ],
)
def test_what_changes_the_digest(kind: Kind, name: str, data: dict[str, bytes], rolls: bool) -> None:
    assert (config_digest(READ, contents(kind, name, **data)) != config_digest(READ, contents())) is rolls


def test_the_digest_confirms_no_guess_of_a_secret() -> None:
    """Who reads Deployments knows the content but for one guess; without the Secret's UID nothing can be compared."""
    assert config_digest(READ, contents()) != config_digest(READ, contents(uid="another"))
    plain = {"r": {"url": b"redis://r".hex(), "unread": b"1".hex()}}
    guess = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
    assert guess not in {config_digest(READ, contents()), config_digest(READ[:1], contents())}


async def config_map(cluster: Cluster, name: str, **data: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    path = cluster.path("configmaps", name) + "?fieldManager=kubectl&force=true"
    await cluster.call("PATCH", path, body, "application/apply-patch+yaml")


async def test_workers_roll_when_what_they_read_changes_and_only_then(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    worker = {**WORKER, "app": "shop:app"}
    async with namespace_with(own_api_server, shared_valkey.url, RULES) as cluster:
        for secret in "ae":
            await cluster.secret(secret, k="1", unread="1")
        await config_map(cluster, "d", k="1", unread="1")
        with running_operator(own_api_server, shared_valkey.url, tmp_path, **settings(own_api_server, cluster)):
            await cluster.apply(name, redis=OWN_REDIS, worker=worker, scaling=FAST)
            seen = [await _hash(cluster, name)]

            async def rolled() -> bool:
                return await _hash(cluster, name) not in seen

            await config_map(cluster, "f", k="1")  # an optional one that comes
            await until(rolled)
            seen.append(await _hash(cluster, name))
            await cluster.secret("a", k="1", unread="2")
            await cluster.secret("redis", url=shared_valkey.url, unread="2")
            await config_map(cluster, "d", k="1", unread="2")
            await config_map(cluster, "f", k="2")
            await until(rolled)  # once, by the last of these changes
            seen.append(await _hash(cluster, name))
            await config_map(cluster, "f", k="1")

            async def as_before() -> bool:
                return await _hash(cluster, name) == seen[1]

            await until(as_before)


async def test_workers_start_without_the_right_to_read_config_maps(
    own_api_server: ApiServer, shared_valkey: Valkey, tmp_path: Path
) -> None:
    name = unique("emails")
    rules = [rule for rule in RULES if rule["resources"] != ["configmaps"]]
    worker = {"image": "shop:1", "app": "shop:app", "envFrom": [{"configMapRef": {"name": "theirs"}}]}
    async with served(own_api_server, shared_valkey.url, tmp_path, rules) as cluster:
        await cluster.apply(name, redis=OWN_REDIS, worker=worker, scaling=FAST)
        await cluster.workers(name)
        await cluster.condition(name, "Ready", "True", "ScaledToZero")


async def _hash(cluster: Cluster, name: str) -> str:
    template = (await cluster.workers(name))["spec"]["template"]
    return str(template["metadata"]["annotations"]["stoker.dev/config-hash"])
