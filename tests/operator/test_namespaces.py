"""Whose queue it is: namespaces that share one Redis."""

from tests.operator.operating import FAST, Cluster, Queues, unique
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
