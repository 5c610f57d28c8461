"""What goes wrong is said on the resource, with what to do, and never harms what is not ours."""

import sys
from typing import Any

import pytest
import redis

from stoker.queue.keys import Keys
from tests.operator.operating import FAST, Cluster, Operator, Queues, unique, until
from tests.redis_servers import Valkey


async def test_redis_away_holds_the_workers_and_they_go_on_when_it_is_back(
    cluster: Cluster, queues: Queues, own_valkey: Valkey
) -> None:
    name = unique("emails")
    await cluster.secret("redis", url=own_valkey.url)
    await cluster.apply(name, redis={"urlSecretRef": {"name": "redis"}}, scaling=FAST)
    await queues(name, own_valkey.url).enqueue(25)
    await cluster.workers(name)
    await cluster.replicas(name, 3)

    own_valkey.stop()
    trouble = await cluster.condition(name, "RedisReachable", "False", "RedisUnreachable")
    assert "does not answer" in trouble["message"]
    await cluster.condition(name, "ScalingActive", "False", "DemandUnknown")
    await cluster.replicas(name, 3)

    own_valkey.start()  # it comes back empty: nothing left to do
    await cluster.condition(name, "RedisReachable", "True", "Connected")
    await cluster.replicas(name, 0)
    await cluster.told(name, "ScaledUp", "RedisUnreachable", "RedisRecovered", "ScaledDown")


async def test_a_redis_that_hangs_delays_only_its_own_queues(cluster: Cluster, queues: Queues, silent_redis: str) -> None:
    stuck, well = unique("stuck"), unique("well")
    await cluster.secret("redis", url=silent_redis)
    await cluster.apply(stuck, redis={"urlSecretRef": {"name": "redis"}}, scaling=FAST)
    trouble = await cluster.condition(stuck, "RedisReachable", "False", "RedisUnreachable")
    assert trouble["message"] == "Redis did not answer within 1s"

    await cluster.apply(well, scaling=FAST)
    await cluster.workers(well)
    await queues(well).enqueue(15)
    await cluster.replicas(well, 2)


async def test_a_spec_that_cannot_be_served_says_what_to_mend(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, worker={"image": "shop:1", "env": [{"name": "STOKER_QUEUE", "value": "other"}]})
    ready = await cluster.condition(name, "Ready", "False", "InvalidSpec")
    assert "STOKER_QUEUE is set by the operator" in ready["message"]
    await cluster.condition(name, "Stalled", "True", "InvalidSpec")
    await cluster.told(name, "InvalidSpec")

    await cluster.apply(name)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    await cluster.told(name, "InvalidSpec", "Ready")


BAD_EDITS: dict[str, dict[str, Any]] = {
    "InvalidSpec": {"schedules": [{"name": "nightly", "cron": "0 3 * * *", "task": "sweep", "timeZone": "Europe/Atlantis"}]},
    "SecretMissing": {"worker": {"image": "shop:2", "envFrom": [{"secretRef": {"name": "not-there-yet"}}]}},
    "WorkersRefused": {"worker": {"image": "shop:2", "resources": {"limits": {"memory": "much"}}}},
}


@pytest.mark.parametrize("reason", BAD_EDITS)
async def test_a_bad_edit_does_not_stop_the_scaling_of_what_runs(cluster: Cluster, queues: Queues, reason: str) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={**FAST, "maxReplicas": 3})
    await cluster.workers(name)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    await cluster.apply(name, scaling={**FAST, "maxReplicas": 9}, **BAD_EDITS[reason])
    await cluster.condition(name, "Ready", "False", reason)

    await queues(name).enqueue(95)
    await cluster.replicas(name, 3)  # by the limit of the spec that runs
    scaling = await cluster.condition(name, "ScalingActive", "True", "Scaling")
    assert "by the last good spec, generation 1" in scaling["message"]
    ready = await cluster.condition(name, "Ready", "False", reason)
    assert ready["observedGeneration"] == 2
    image = (await cluster.workers(name))["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "shop:1"

    await cluster.apply(name, scaling={**FAST, "maxReplicas": 9})
    await cluster.replicas(name, 9)
    await cluster.condition(name, "Ready", "Unknown", "WorkersStarting")


async def test_a_suspended_queue_with_a_bad_edit_is_left_alone(cluster: Cluster, queues: Queues) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await cluster.workers(name)
    await cluster.apply(name, scaling=FAST, suspend=True, **BAD_EDITS["InvalidSpec"])
    await cluster.condition(name, "ScalingActive", "False", "Suspended")
    await queues(name).enqueue(25)

    async def shown() -> bool:
        return bool((await cluster.get("taskqueues", name))["status"].get("queue", {}).get("ready") == 25)

    await until(shown)
    assert (await cluster.get("deployments", f"{name}-worker"))["spec"]["replicas"] == 0


async def test_a_pod_template_that_the_api_server_refuses_is_quoted(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, worker={"image": "shop:1", "resources": {"limits": {"memory": "much"}}})
    ready = await cluster.condition(name, "Ready", "False", "WorkersRefused")
    assert "quantities must match" in ready["message"]


async def test_a_strangers_deployment_is_not_touched(cluster: Cluster, queues: Queues) -> None:
    name = unique("emails")
    theirs = {
        "metadata": {"name": f"{name}-worker", "labels": {"stoker.dev/taskqueue": name}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "x", "image": "theirs:1"}]}},
        },
    }
    before = await cluster.create("deployments", theirs)
    await cluster.apply(name, scaling=FAST)
    await queues(name).enqueue(50)
    ready = await cluster.condition(name, "Ready", "False", "NameTaken")
    assert f"{name}-worker" in ready["message"]
    after = await cluster.get("deployments", f"{name}-worker")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]

    await cluster.delete("deployments", f"{name}-worker")
    await cluster.replicas(name, 5)


async def test_workers_that_lost_their_owner_are_taken_back_with_their_pods(cluster: Cluster, queues: Queues) -> None:
    """As a restore from a backup leaves them, and `kubectl delete --cascade=orphan`."""
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    before = await cluster.workers(name)
    await cluster.patch("taskqueues", name, {"spec": {"suspend": True}})
    await cluster.condition(name, "Suspended", "True", "Suspended")
    await cluster.patch("deployments", f"{name}-worker", {"metadata": {"ownerReferences": None}})
    await cluster.delete("taskqueues", name)
    await cluster.gone(name)
    await cluster.apply(name, scaling=FAST)
    await queues(name).enqueue(25)
    await cluster.replicas(name, 3)
    after, owner = await cluster.workers(name), (await cluster.get("taskqueues", name))["metadata"]["uid"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [each["uid"] for each in after["metadata"]["ownerReferences"]] == [owner]


async def test_a_label_on_somebody_elses_deployment_costs_nothing(cluster: Cluster, operator: Operator) -> None:
    for label in ("", "unknown-queue"):
        theirs = {
            "metadata": {"name": unique("theirs"), "labels": {"stoker.dev/taskqueue": label}},
            "spec": {
                "selector": {"matchLabels": {"app": "theirs"}},
                "template": {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "x", "image": "x:1"}]}},
            },
        }
        await cluster.create("deployments", theirs)
    name = unique("emails")
    await cluster.apply(name)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")  # whose events came after theirs
    mine = [line for line in operator.said() if line.get("taskqueue", "").startswith(f"{cluster.namespace}/")]
    assert not [line for line in mine if line["level"] in {"error", "warning"}]


async def test_a_spec_nested_beyond_every_decoder_harms_no_other(cluster: Cluster, queues: Queues, operator: Operator) -> None:
    deep, well = unique("deep"), unique("well")
    payload: Any = {}
    for _ in range(1500):
        payload = {"a": payload}
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        await cluster.apply(deep, schedules=[{"name": "s", "cron": "0 3 * * *", "task": "x", "payload": payload}])
    finally:
        sys.setrecursionlimit(limit)
    await cluster.apply(well, scaling=FAST)
    await cluster.workers(well)
    await queues(well).enqueue(25)
    await cluster.replicas(well, 3)
    await cluster.patch("taskqueues", well, {"spec": {"scaling": {"maxReplicas": 2}}})
    await cluster.replicas(well, 2)
    await cluster.delete("taskqueues", deep)
    await cluster.gone(deep)
    assert operator.running.poll() is None


async def test_a_missing_secret_is_named_and_waited_for(cluster: Cluster, redis_url: str) -> None:
    name = unique("emails")
    await cluster.apply(name, redis={"urlSecretRef": {"name": "cache", "key": "uri"}})
    ready = await cluster.condition(name, "Ready", "False", "SecretMissing")
    assert "Secret cache not found" in ready["message"]

    await cluster.secret("cache", url=redis_url)
    await until(lambda: _says(cluster, name, "Secret cache has no key 'uri': add it, or set spec.redis.urlSecretRef.key"))

    await cluster.secret("cache", uri=redis_url)
    await cluster.condition(name, "Ready", "True", "ScaledToZero")
    before = await cluster.workers(name)
    [url] = [each for each in before["spec"]["template"]["spec"]["containers"][0]["env"] if each["name"] == "STOKER_REDIS_URL"]
    assert url["valueFrom"] == {"secretKeyRef": {"name": "cache", "key": "uri"}}


async def _says(cluster: Cluster, name: str, message: str) -> bool:
    conditions = (await cluster.get("taskqueues", name)).get("status", {}).get("conditions", [])
    return message in [condition["message"] for condition in conditions]


async def test_a_redis_url_that_cannot_be_read_is_said_without_its_password(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.secret("redis", url="http://user:hunter2@redis:6379")
    await cluster.apply(name, redis={"urlSecretRef": {"name": "redis"}})
    trouble = await cluster.condition(name, "RedisReachable", "False", "InvalidRedisUrl")
    assert "hunter2" not in trouble["message"]
    assert "redis://" in trouble["message"]


async def test_nothing_of_a_url_that_a_secret_holds_is_shown(cluster: Cluster) -> None:
    """The author of a TaskQueue may name a Secret that they may not read."""
    name = unique("emails")
    await cluster.secret("redis", url="redis://anna:hunter2@127.0.0.9:1/0")
    await cluster.apply(name, redis={"urlSecretRef": {"name": "redis"}})
    trouble = await cluster.condition(name, "RedisReachable", "False", "RedisUnreachable")
    assert trouble["message"] == "Redis does not answer"


async def test_pods_that_cannot_start_are_quoted(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={"minReplicas": 1})
    workers = await cluster.workers(name)
    template = workers["spec"]["template"]
    await cluster.create(
        "pods", {"metadata": {"name": f"{name}-1", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    )
    waiting: dict[str, Any] = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "shop:1"'}}
    container = {"name": "worker", "image": "shop:1", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    await cluster.patch("pods", f"{name}-1", {"status": {"containerStatuses": [container]}}, "/status")
    ready = await cluster.condition(name, "Ready", "False", "WorkersFailing")
    assert ready["message"] == f'pod {name}-1: ImagePullBackOff: Back-off pulling image "shop:1"'


async def test_a_queue_that_is_broken_in_redis_does_not_blind_its_neighbours(
    cluster: Cluster, queues: Queues, shared_valkey: Valkey
) -> None:
    broken, well = unique("broken"), unique("well")
    with redis.Redis.from_url(shared_valkey.url) as client:
        client.set(Keys(cluster.namespace, broken).ready, "not a sorted set")
    await cluster.apply(broken, scaling=FAST)
    await cluster.apply(well, scaling=FAST)
    trouble = await cluster.condition(broken, "RedisReachable", "False", "RedisRefused")
    assert "a key of this queue holds something else" in trouble["message"]
    await cluster.workers(well)
    await queues(well).enqueue(15)
    await cluster.replicas(well, 2)
