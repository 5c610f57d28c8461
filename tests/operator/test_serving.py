"""A TaskQueue is applied, and its queue is served: workers made, scaled up and down, and kept as the spec says."""

import secrets
from typing import Any

from operating import Cluster

from servers import Valkey

FAST = {"backlogPerReplica": 10, "idleAfter": "1s", "scaleDown": {"stabilization": "1s"}}


def unique(name: str) -> str:
    return f"{name}-{secrets.token_hex(3)}"


async def test_a_backlog_brings_workers_and_they_leave_when_it_is_drained(
    cluster: Cluster, shared_valkey: Valkey, tasks: Any
) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={**FAST, "maxReplicas": 5})
    await cluster.workers(name)
    await cluster.replicas(name, 0)

    queue = tasks(shared_valkey.url, name)
    await queue.enqueue(35)
    await cluster.replicas(name, 4)
    assert await queue.drain() == 35
    await cluster.replicas(name, 0)
    assert await cluster.events(name) == ["ScaledUp", "ScaledDown"]
