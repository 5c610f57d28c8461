"""The autoscaler's decisions are in the queue's Redis, for whoever asks why there are so many workers."""

from collections.abc import AsyncIterator

import pytest

from stoker.queue.reads.inspector import Inspector
from tests.operator.operating import FAST, Cluster, Queues, unique, until
from tests.redis_servers import Valkey


@pytest.fixture
async def inspector(shared_valkey: Valkey, cluster: Cluster) -> AsyncIterator[Inspector]:
    opened = Inspector.at(shared_valkey.url, cluster.namespace)
    yield opened
    await opened.close()


async def test_each_change_of_replicas_is_recorded_with_its_reason(cluster: Cluster, queues: Queues, inspector: Inspector) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling=FAST)
    await queues(name).enqueue(25)
    await cluster.replicas(name, 3)
    await queues(name).drain()
    await cluster.replicas(name, 0)

    async def recorded() -> bool:
        changes = [each for each in reversed(await inspector.decisions(name)) if each.before != each.after]
        assert [(each.before, each.after) for each in (changes[0], changes[-1])] == [(0, 3), (changes[-1].before, 0)]
        assert (changes[0].reason, changes[0].ready, changes[-1].reason) == ("ScaleUp", 25, "Idle")
        return True

    await until(recorded)
    assert len(await inspector.decisions(name)) < 15, "one a change, not one a second"
