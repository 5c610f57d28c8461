"""Redis goes away and comes back; workers wait and resume by themselves."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from stoker import RedisUnavailable, Stoker
from stoker.queue.keys import Keys
from stoker.queue.records import Pulse
from stoker.redis.connect import ThreadClient, connect
from stoker.rules.identity import QueueId
from stoker.rules.states import TaskState
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop.heartbeat import Heartbeat
from stoker.worker.loop.outage import Outage
from stoker.worker.loop.partition import Partition
from stoker.worker.loop.watchdog import Watchdog
from tests.redis_servers import Valkey, free_port, running_valkey
from tests.stories.observing import probe
from tests.stories.working import working
from tests.waiting import until


async def test_running_tasks_finish_and_the_worker_resumes(opened: Callable[[str], Stoker], tmp_path: Path) -> None:
    """With an append-only file the server comes back with its leases: what ended meanwhile is settled then."""
    with running_valkey("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path)) as server:
        app = opened(server.url)
        begun, may_end, port = asyncio.Event(), asyncio.Event(), free_port()

        @app.task()
        async def long(ctx_free: int) -> int:
            begun.set()
            await may_end.wait()
            return ctx_free

        handle = await long.enqueue(7)
        async with working(app, port=port, lease=long_lease()):
            await begun.wait()
            await until(lambda: answers(port, "/readyz", 200))
            server.stop()
            may_end.set()
            await until(lambda: answers(port, "/readyz", 503))
            assert await probe(port, "/livez") == (200, "ok\n"), "a restart would not bring Redis back"
            with pytest.raises(RedisUnavailable):
                await long.enqueue(8)
            server.start()
            assert await until(lambda: succeeded(app, handle.id), 15)
            await until(lambda: answers(port, "/readyz", 200))
            assert await (await long.enqueue(9)).result(timeout=10) == 9


def long_lease() -> object:
    from stoker.manifest.policies import Lease
    from stoker.rules.units import Duration

    return Lease(Duration(30))


async def succeeded(app: Stoker, task_id: str) -> bool:
    try:
        return (await app.client.status("default", task_id)).state is TaskState.SUCCEEDED
    except RedisUnavailable:
        return False


async def test_a_worker_may_start_before_its_redis(opened: Callable[[str], Stoker], own_valkey: Valkey) -> None:
    own_valkey.stop()
    app = opened(own_valkey.url)

    @app.task()
    async def ship() -> str:
        return "shipped"

    async with working(app):
        own_valkey.start()
        handle = await ship.enqueue()
        assert await handle.result(timeout=10) == "shipped"


async def test_a_short_outage_costs_no_lease(opened: Callable[[str], Stoker], own_valkey: Valkey, tmp_path: Path) -> None:
    """A heartbeat that has failed is tried again at once when Redis is back, not after its regular interval."""
    app = opened(own_valkey.url)
    beats: list[Pulse] = []
    settings = WorkerSettings(queue="default", redis_url=own_valkey.url, namespace=app.namespace)
    redis, metrics = connect(own_valkey.url), WorkerMetrics(CollectorRegistry(), QueueId("stoker", "default"), 1)
    partition = Partition(Keys(app.namespace, "default"), "w", app, settings, redis, metrics)
    heartbeat = Heartbeat(ThreadClient(own_valkey.url), 600, Watchdog(), [partition.worker], lambda _, answer: beats.append(answer))
    own_valkey.stop()
    heartbeat.start()
    try:
        await until(lambda: heartbeat._failing)
        own_valkey.start()
        await until(lambda: beats, within=30)
    finally:
        await asyncio.to_thread(heartbeat.stop)
        await partition.worker.close()
        await redis.aclose()


async def test_an_outage_is_recent_until_others_have_renewed_their_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.worker.loop.outage.RECOVERY", 0.2)
    outage = Outage()
    assert not outage.recent
    await outage.wait_out(RedisUnavailable("gone"), aborting=False)
    assert outage.recent
    outage.over()
    assert not outage
    assert outage.recent
    await until(lambda: not outage.recent, within=10)


async def test_a_worker_without_redis_still_drains(own_valkey: Valkey) -> None:
    """The harness tells it to leave and gives it ten seconds."""
    app = Stoker("shop", redis=own_valkey.url)
    async with working(app, drain_timeout=0.5):
        own_valkey.stop()
    own_valkey.start()


async def answers(port: int, path: str, status: int) -> bool:
    return (await probe(port, path))[0] == status
