"""The sample's queue `emails`: how the tests enqueue into it, and what became of the tasks and the workers."""

import json
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from tests.cluster.clusters import CHECKOUT, HERE, Cluster, eventually

SAMPLE = CHECKOUT / "k8s" / "samples" / "emails.yaml"
CUSTOMERS = HERE / "customers.py"
WORKERS = "stoker.dev/taskqueue=emails"


def apply_sample(cluster: Cluster) -> None:
    """The sample, and the Deployment it leads to: there, with no workers."""
    cluster.kubectl("apply", "-f", str(SAMPLE))
    eventually(lambda: workers_wanted(cluster) == 0, 30, "a Deployment with no workers")


def enqueue(cluster: Cluster, way: str, first: int, count: int) -> list[str]:
    """Run one of the customers. The ids it was given."""
    settings = cluster.credentials()
    with cluster.reach("stoker-gateway", 80) as gateway, cluster.reach("stoker-redis", 6379) as redis:
        eventually(lambda: answers(cluster, f"http://{gateway}/healthz"), 30, "the gateway answers")
        environment = {
            "GATEWAY_URL": f"http://{gateway}",
            "STOKER_REDIS_URL": urlsplit(settings["STOKER_REDIS_URL"])._replace(netloc=f"{login(settings)}@{redis}").geturl(),
            "STOKER_NAMESPACE": settings["STOKER_NAMESPACE"],
            "PYTHONPATH": str(CHECKOUT / "examples" / "shop"),
        }
        ids: list[str] = json.loads(cluster.python(CUSTOMERS, way, str(first), str(count), environment=environment))
    return ids


def login(settings: Mapping[str, str]) -> str:
    """The user and password of a URL, in whose place the tests have another address."""
    return urlsplit(settings["STOKER_REDIS_URL"]).netloc.rpartition("@")[0]


def everyone_ran(cluster: Cluster, ids: Sequence[str]) -> dict[str, int] | None:
    """How often each task ran to its end; None while one of them has not."""
    written = cluster.redis("HGETALL", f"{{{cluster.namespace}}}:ledger")
    ran = {task: int(written.get(task, 0)) for task in ids}
    return ran if all(ran.values()) else None


def workers_wanted(cluster: Cluster) -> int | None:
    """`spec.replicas` of the Deployment; None while there is none."""
    found = cluster.get("deployment", "emails-worker")
    return found["spec"]["replicas"] if found else None


def answers(cluster: Cluster, url: str) -> bool:
    """Whether something is there that says 200."""
    probe = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)"
    try:
        cluster.run(sys.executable, "-c", probe, url)
    except AssertionError:
        return False
    return True
