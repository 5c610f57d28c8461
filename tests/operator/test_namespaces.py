"""Whose queue it is: namespaces that share one Redis, and TaskQueues that mean one queue."""

from typing import Any

import pytest

from stoker.rules.identity import Holder
from tests.operator.operating import FAST, Cluster, Queues, unique, until
from tests.redis_servers import Valkey


async def test_taskqueues_of_one_name_in_two_namespaces_never_meet(cluster: Cluster, neighbour: Cluster, queues: Queues) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await neighbour.apply(name, scaling=FAST)
    for namespace in (cluster, neighbour):
        env = (await namespace.workers(name))["spec"]["template"]["spec"]["containers"][0]["env"]
        assert {"name": "STOKER_NAMESPACE", "value": namespace.namespace} in env
    await queues(name).enqueue(25)
    await cluster.replicas(name, 3)
    await neighbour.condition(name, "RedisReachable", "True", "Connected")
    assert (await neighbour.get("deployments", f"{name}-worker"))["spec"]["replicas"] == 0
    assert await queues(name, namespace=neighbour.namespace).drain() == 0
    assert await queues(name).drain() == 25


async def test_in_a_redis_of_its_own_a_taskqueue_may_name_another_namespace(
    cluster: Cluster, queues: Queues, own_valkey: Valkey
) -> None:
    name = unique("emails")
    await cluster.secret("redis", url=own_valkey.url)
    await cluster.apply(name, scaling=FAST, redis={"urlSecretRef": {"name": "redis"}, "namespace": "legacy"})
    await cluster.workers(name)
    await queues(name, own_valkey.url, "legacy").enqueue(15)
    await cluster.replicas(name, 2)


async def taken(cluster: Cluster, name: str) -> str:
    """Wait for QueueTaken, without any workers. Returns the message."""
    ready = await cluster.condition(name, "Ready", "False", "QueueTaken")
    await cluster.condition(name, "Stalled", "True", "QueueTaken")
    deployments = (await cluster.call("GET", cluster.path("deployments")))["items"]
    assert f"{name}-worker" not in [each["metadata"]["name"] for each in deployments]
    return str(ready["message"])


async def test_of_two_for_one_queue_the_first_serves_it_until_it_is_deleted(cluster: Cluster, queues: Queues) -> None:
    queue, first, second = unique("shared"), unique("a"), unique("b")
    await cluster.apply(first, queue={"name": queue}, scaling=FAST)
    await cluster.workers(first)
    await cluster.apply(second, queue={"name": queue}, scaling=FAST)
    assert await taken(cluster, second) == (
        f"queue '{queue}' is claimed by TaskQueue {first}: set another spec.queue.name, or delete that one"
    )
    await queues(queue).enqueue(25)
    await cluster.replicas(first, 3)

    await cluster.delete("taskqueues", first)
    await cluster.replicas(second, 3)


@pytest.mark.parametrize("spelling", ["redis://localhost:{port}/0", "redis://127.0.0.1:{port}", "{url}?client_name=x"])
async def test_another_spelling_of_the_url_is_the_same_queue(cluster: Cluster, shared_valkey: Valkey, spelling: str) -> None:
    queue, first, second = unique("shared"), unique("a"), unique("b")
    await cluster.apply(first, queue={"name": queue}, scaling=FAST)
    await cluster.workers(first)
    await cluster.secret("redis", url=spelling.format(port=shared_valkey.port, url=shared_valkey.url))
    await cluster.apply(second, queue={"name": queue}, scaling=FAST, redis={"urlSecretRef": {"name": "redis"}})
    await taken(cluster, second)


async def test_an_intruder_from_another_namespace_learns_no_name(
    cluster: Cluster, neighbour: Cluster, queues: Queues, shared_valkey: Valkey
) -> None:
    """It names the victim's key namespace beside its own Secret; the victim's workers stay."""
    victim, intruder = unique("emails"), unique("intruder")
    await cluster.apply(victim, scaling=FAST, queue={"name": unique("queue")})
    queue = (await cluster.get("taskqueues", victim))["spec"]["queue"]["name"]
    await cluster.workers(victim)
    await queues(queue).enqueue(25)
    await cluster.replicas(victim, 3)
    await neighbour.secret("redis", url=shared_valkey.url)
    redis = {"urlSecretRef": {"name": "redis"}, "namespace": cluster.namespace}
    await neighbour.apply(intruder, queue={"name": queue}, redis=redis, scaling=FAST)
    message = await taken(neighbour, intruder)
    assert "claimed by a TaskQueue of another cluster or namespace" in message
    assert victim not in message
    await cluster.replicas(victim, 3)
    await cluster.condition(victim, "ScalingActive", "True", "Scaling")


async def test_the_claim_of_another_cluster_stands_until_a_person_releases_it(cluster: Cluster, queues: Queues) -> None:
    name = unique("emails")
    inspector = queues(name).inspector
    await inspector.claim(name, Holder("another cluster", cluster.namespace, name, "uid"))
    await cluster.apply(name, scaling=FAST)
    message = await taken(cluster, name)
    assert f"stoker release-claim --namespace {cluster.namespace} --queue {name}" in message
    assert await inspector.release_claim(name)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")


@pytest.mark.parametrize("gone", [pytest.param("", id="an earlier one of its name"), pytest.param("another", id="another one")])
async def test_the_claim_of_a_taskqueue_that_is_gone_is_taken_over(cluster: Cluster, queues: Queues, gone: str) -> None:
    """It was deleted while the operator or Redis was away, so nobody released its claim."""
    name = unique("emails")
    system = (await cluster.call("GET", "/api/v1/namespaces/kube-system"))["metadata"]["uid"]
    await queues(name).inspector.claim(name, Holder(system, cluster.namespace, gone or name, "a former uid"))
    await cluster.apply(name, scaling=FAST)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")


async def test_a_deleted_taskqueue_releases_its_claim(cluster: Cluster, queues: Queues) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    stranger, inspector = Holder("another cluster", "shop", "stranger", "uid"), queues(name).inspector
    assert (await inspector.claim(name, stranger)).name == name
    await cluster.delete("taskqueues", name)

    async def free() -> Any:
        return await inspector.claim(name, stranger) == stranger

    await until(free)


async def test_a_taskqueue_that_moves_to_another_redis_releases_its_claim_in_the_old_one(
    cluster: Cluster, queues: Queues, own_valkey: Valkey
) -> None:
    name, secret = unique("emails"), unique("redis")
    await cluster.apply(name, scaling=FAST)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    await cluster.secret(secret, url=own_valkey.url)
    redis = {"urlSecretRef": {"name": secret}}
    await cluster.apply(name, scaling=FAST, redis=redis)
    stranger = Holder("another cluster", "shop", "stranger", "uid")

    async def free() -> Any:
        return await queues(name).inspector.claim(name, stranger) == stranger

    await until(free)
    assert (await queues(name, own_valkey.url).inspector.claim(name, stranger)).name == name


async def test_a_claim_stays_while_its_redis_is_found_by_another_url(
    cluster: Cluster, queues: Queues, shared_valkey: Valkey
) -> None:
    """Another TaskQueue asks all the while, and never gets it."""
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    inspector, stranger = queues(name).inspector, Holder("another cluster", "shop", "stranger", "uid")
    holder = await inspector.claim(name, stranger)
    for url in (f"redis://localhost:{shared_valkey.port}", f"{shared_valkey.url}?client_name=x"):
        before = (await cluster.get("deployments", f"{name}-worker"))["metadata"]["generation"]
        secret = unique("redis")
        await cluster.secret(secret, url=url)
        await cluster.apply(name, scaling=FAST, redis={"urlSecretRef": {"name": secret}})

        async def rolled_out(before: int = before) -> Any:
            held = await inspector.claim(name, stranger)
            if held == stranger:
                raise RuntimeError("the claim was free for a moment")
            return (await cluster.get("deployments", f"{name}-worker"))["metadata"]["generation"] > before

        await until(rolled_out)
        assert await inspector.claim(name, stranger) == holder


async def test_a_new_taskqueue_waits_for_its_redis(cluster: Cluster, own_valkey: Valkey) -> None:
    """Without the claim it must not start workers: the queue may be another's."""
    name = unique("emails")
    await cluster.secret("redis", url=own_valkey.url)
    own_valkey.stop()
    await cluster.apply(name, redis={"urlSecretRef": {"name": "redis"}}, scaling=FAST)
    await cluster.condition(name, "Ready", "False", "RedisUnreachable")
    await cluster.condition(name, "RedisReachable", "False", "RedisUnreachable")
    assert (await cluster.call("GET", cluster.path("deployments")))["items"] == []
    own_valkey.start()
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    await cluster.told(name, "RedisUnreachable", "RedisRecovered")
