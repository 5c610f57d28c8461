"""FLUSHALL under running workers and clients: their queues, partitions and schedules are listed again, without a restart."""

from collections.abc import AsyncIterator

import pytest

from stoker import Stoker, every
from stoker.manifest.policies import Lease
from stoker.queue.keys import Keys
from stoker.queue.schedules import Schedules
from stoker.queue.timekeeper import RENEW_AFTER, Timekeeper
from stoker.redis.connect import connect
from stoker.rules.schedule import Definition
from stoker.rules.units import Duration
from tests.redis_servers import Valkey
from tests.stories.working import working
from tests.waiting import until


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is announced every five to fifteen seconds is announced every tenth of one."""
    for name in ("queue.announcements.AGAIN_AFTER", "queue.partitions.FRESH", "worker.process.process.ANNOUNCE_INTERVAL"):
        monkeypatch.setattr(f"stoker.{name}", 0.1)
    monkeypatch.setattr("stoker.worker.loop.chores.DECLARE_INTERVAL", 0.1)


@pytest.fixture
async def schedules(app: Stoker) -> AsyncIterator[Schedules]:
    redis = connect(app.redis_url)
    yield Schedules(redis, Keys(app.namespace, "default"))
    await redis.aclose()


async def queues(app: Stoker) -> list[str]:
    return sorted(await app.client.inspector.queues())


async def test_a_worker_lists_its_queue_partitions_and_schedules_again(
    app: Stoker, schedules: Schedules, shared_valkey: Valkey
) -> None:
    @app.task(schedule=every(3600))
    async def report() -> str:
        return "done"

    async def declared() -> bool:
        return [each.name for each in await schedules.all()] == ["report"]

    async with working(app, partitions=3, lease=Lease(Duration(3))):
        await until(declared)
        await (await report.enqueue()).result(timeout=10)
        shared_valkey.flush()
        await until(declared)
        await until(lambda: _has(app, ["default", "default:1", "default:2"]))
        assert await (await report.enqueue()).result(timeout=10) == "done"


async def test_a_client_lists_its_queue_again_without_a_worker(app: Stoker, shared_valkey: Valkey) -> None:
    """Else nothing but a worker would show it, and an autoscaler would never start one."""

    @app.task()
    async def ship() -> None: ...

    await ship.enqueue()
    shared_valkey.flush()
    assert await queues(app) == []

    async def listed_again() -> bool:
        await ship.enqueue()
        return await queues(app) == ["default"]

    await until(listed_again)
    [stats] = await app.client.inspector.stats(["default"])
    assert stats.ready >= 1


async def test_a_taskqueue_declares_its_schedules_again(app: Stoker, schedules: Schedules, shared_valkey: Valkey) -> None:
    at = [0.0]
    keeper = Timekeeper(lambda: at[0])
    definitions = [Definition("report", every(3600), "report")]
    await keeper.keep(schedules, definitions, 1, None)
    shared_valkey.flush()
    at[0] += RENEW_AFTER
    await keeper.keep(schedules, definitions, 1, None)
    assert [each.name for each in await schedules.all()] == ["report"]


async def _has(app: Stoker, names: list[str]) -> bool:
    return await queues(app) == names
