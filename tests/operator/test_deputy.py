"""The operator acts with its own rights on what an author writes: it reads and reaches nothing that a pod of theirs could not."""

import secrets

import httpx
import pytest

from tests.operator.operating import FAST, Cluster, Queues, unique
from tests.redis_servers import Valkey


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0", "[::ffff:169.254.169.254]"])
async def test_a_url_at_an_address_of_the_cloud_or_the_link_is_refused_and_not_quoted(cluster: Cluster, host: str) -> None:
    name = unique("emails")
    await cluster.secret("redis", url=f"redis://{host}:80/0")
    await cluster.apply(name, redis={"urlSecretRef": {"name": "redis"}}, scaling=FAST)
    trouble = await cluster.condition(name, "RedisReachable", "False", "RedisNotAllowed")
    assert "allowedRedis" in trouble["message"]
    assert host.strip("[]") not in trouble["message"]
    await cluster.condition(name, "Ready", "False", "RedisNotAllowed")


async def test_the_user_of_a_namespace_reads_no_other_through_the_operator(
    cluster: Cluster, neighbour: Cluster, queues: Queues
) -> None:
    """An author may point at the Secret that the operator made, and name another namespace: its own credentials decide."""
    first, victim = unique("first"), unique("victim")
    await neighbour.apply(victim, scaling=FAST)
    await neighbour.workers(victim)
    await queues(victim, namespace=neighbour.namespace).enqueue(25)
    await cluster.apply(first, scaling=FAST)
    await cluster.workers(first)
    thief = unique("thief")
    reference = {"name": "stoker-redis", "key": "STOKER_REDIS_URL"}
    redis = {"urlSecretRef": reference, "namespace": neighbour.namespace}
    await cluster.apply(thief, queue={"name": victim}, redis=redis, scaling=FAST)
    await cluster.condition(thief, "RedisReachable", "False", "RedisRefused")
    status = (await cluster.get("taskqueues", thief))["status"]
    assert "queue" not in status
    await neighbour.replicas(victim, 3)


async def test_a_token_of_a_service_account_in_the_place_of_a_url_is_not_shown(cluster: Cluster) -> None:
    """A pod of the author's could mount it; who may only see TaskQueues must not."""
    name, token = unique("emails"), secrets.token_urlsafe(40)
    annotations = {"kubernetes.io/service-account.name": "default"}
    await cluster.create("serviceaccounts", {"metadata": {"name": "default"}})
    metadata = {"name": "token", "annotations": annotations}
    await cluster.create(
        "secrets", {"metadata": metadata, "type": "kubernetes.io/service-account-token", "stringData": {"token": token}}
    )
    await cluster.apply(name, redis={"urlSecretRef": {"name": "token", "key": "token"}}, scaling=FAST)
    trouble = await cluster.condition(name, "RedisReachable", "False", "InvalidRedisUrl")
    assert token not in str(await cluster.get("taskqueues", name))
    assert trouble["message"].startswith("bad Redis URL: it must start with one of redis://")


@pytest.mark.parametrize("field", ["name", "key"])
async def test_no_name_of_a_secret_leads_to_another_namespace(cluster: Cluster, field: str, shared_valkey: Valkey) -> None:
    """A name that could become another path is refused by the schema. A key is one of the Secret's, whatever it looks like."""
    reference = {"name": "redis", "key": "url", field: "../../kube-system/secrets/redis"}
    await cluster.secret("redis", url=shared_valkey.url)
    manifest = {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {"name": unique("emails")},
        "spec": {"worker": {"image": "shop:1"}, "redis": {"urlSecretRef": reference}},
    }
    reply: httpx.Response = await cluster.http.post(cluster.path("taskqueues"), json=manifest)
    assert reply.status_code == 422, reply.text
    assert f"spec.redis.urlSecretRef.{field}" in reply.text
