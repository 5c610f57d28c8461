"""A TaskQueue's schedules: declared without any worker, seen by the autoscaler, gone with the TaskQueue."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from stoker.queue.reads.inspector import Inspector
from stoker.queue.records import QueueStats
from stoker.queue.schedules import Schedules
from tests.operator.operating import FAST, Cluster, Queues, unique, until
from tests.redis_servers import Valkey

NEVER = {"name": "yearly", "cron": "@yearly", "task": "report", "payload": {"year": "last"}}
SOON = {"name": "soon", "cron": "@every 1s", "task": "noop"}


@pytest.fixture
async def inspector(shared_valkey: Valkey, cluster: Cluster) -> AsyncIterator[Inspector]:
    opened = Inspector.at(shared_valkey.url, cluster.namespace)
    yield opened
    await opened.close()


def names(schedules: Schedules, *wanted: str) -> Callable[[], Awaitable[bool]]:
    async def listed() -> bool:
        assert [status.name for status in await schedules.all()] == list(wanted)
        return True

    return listed


async def stats_of(inspector: Inspector, queue: str) -> QueueStats:
    [stats] = await inspector.stats([queue])
    return stats


async def test_a_run_that_is_due_brings_the_first_worker(cluster: Cluster, queues: Queues, inspector: Inspector) -> None:
    name = unique("reports")
    await cluster.apply(name, scaling=FAST, schedules=[SOON])
    await cluster.replicas(name, 1)

    async def waits() -> bool:
        return (await stats_of(inspector, name)).ready == 1

    await until(waits)

    async def skips() -> bool:
        [status] = await inspector.schedules(name).all()
        return status.skipped >= 2

    await until(skips)
    assert (await stats_of(inspector, name)).ready == 1, "it waits for a worker, and none comes beside it"
    await cluster.apply(name, scaling=FAST, schedules=[])
    await until(names(inspector.schedules(name)))
    assert await queues(name).drain() >= 1
    await cluster.replicas(name, 0)


async def test_schedules_are_changed_and_removed_with_the_manifest(cluster: Cluster, inspector: Inspector) -> None:
    name = unique("reports")
    await cluster.apply(name, schedules=[NEVER, {**NEVER, "name": "other"}])
    schedules = inspector.schedules(name)
    await until(names(schedules, "other", "yearly"))
    [_, yearly] = await schedules.all()
    assert yearly.source == "taskqueue"
    assert yearly.definition
    assert bytes(yearly.definition.payload) == b'{"year":"last"}'
    await cluster.apply(name, schedules=[{**NEVER, "cron": "@monthly", "suspend": True}])
    await until(names(schedules, "yearly"))
    [monthly] = await schedules.all()
    assert monthly.next_run is None
    await cluster.replicas(name, 0)


async def test_a_taskqueue_that_is_deleted_leaves_no_schedule(cluster: Cluster, inspector: Inspector) -> None:
    name = unique("reports")
    await cluster.apply(name, schedules=[NEVER])
    await until(names(inspector.schedules(name), "yearly"))
    await cluster.delete("taskqueues", name)
    await until(names(inspector.schedules(name)))


async def test_made_anew_it_has_its_schedules_again(cluster: Cluster, inspector: Inspector) -> None:
    """Its generation starts from 1: what an older one of the name has said must not be held against it."""
    name = unique("reports")
    await cluster.apply(name, schedules=[NEVER])
    await cluster.apply(name, schedules=[NEVER], scaling={"maxReplicas": 3})
    await until(names(inspector.schedules(name), "yearly"))
    await cluster.delete("taskqueues", name)
    await cluster.delete("deployments", f"{name}-worker")  # as the garbage collector would
    await until(names(inspector.schedules(name)))
    await cluster.apply(name, schedules=[{**NEVER, "name": "again"}])
    await until(names(inspector.schedules(name), "again"))


async def test_a_schedule_that_cannot_work_is_said(cluster: Cluster) -> None:
    """What a schema cannot know: whether there is such a day, and such a zone."""
    name = unique("reports")
    await cluster.apply(name, schedules=[{**NEVER, "cron": "0 0 30 2 *"}])
    condition = await cluster.condition(name, "Ready", "False", "InvalidSpec")
    assert "0 0 30 2 *" in condition["message"]
    await cluster.apply(name, schedules=[{**NEVER, "timeZone": "Europe/Atlantis"}])

    async def told() -> bool:
        return "Atlantis" in (await cluster.condition(name, "Ready", "False", "InvalidSpec"))["message"]

    await until(told)
