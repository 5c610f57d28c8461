"""One worker serves several queues: by weight or in order, and each queue as if it had its own worker."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from stoker import Stoker
from stoker.app.task import Handle, Task
from stoker.manifest.policies import RateLimit
from stoker.queue.keys import Keys
from stoker.rules.shares import QueueWeight
from tests.redis_servers import free_port
from tests.stories.observing import probe, samples
from tests.stories.working import working
from tests.waiting import until

QUEUES = {"critical": 6, "normal": 3, "bulk": 1}


class Docks:
    """A task in each of three queues, and the order in which they began."""

    def __init__(self, app: Stoker) -> None:
        self.began: list[str] = []
        self.seconds = 0.0
        self.ships: dict[str, Task[..., Any]] = {queue: self._task(app, queue) for queue in QUEUES}

    def _task(self, app: Stoker, queue: str) -> Task[..., Any]:
        @app.task(name=f"ship_{queue}", queue=queue)
        async def ship() -> None:
            self.began.append(queue)
            await asyncio.sleep(self.seconds)

        return ship

    async def fill(self, **counts: int) -> dict[str, list[Handle[Any]]]:
        return {queue: [await self.ships[queue].enqueue() for _ in range(count)] for queue, count in counts.items()}


@pytest.fixture
def docks(app: Stoker) -> Docks:
    return Docks(app)


@asynccontextmanager
async def serving(app: Stoker, *names: str, weights: bool = True, **settings: Any) -> AsyncIterator[asyncio.Task[None]]:
    queues = tuple(QueueWeight(name, QUEUES[name] if weights else 1) for name in names or QUEUES)
    async with working(app, queue="", queues=queues, **settings) as running:
        yield running


async def all_end(handles: dict[str, list[Handle[Any]]]) -> None:
    for each in handles.values():
        for handle in each:
            await handle.result(timeout=20)


@pytest.mark.parametrize("concurrency", [1, 10, 50])
async def test_when_all_have_work_their_shares_are_the_weights(app: Stoker, docks: Docks, concurrency: int):
    docks.seconds = 0.001
    handles = await docks.fill(critical=240, normal=240, bulk=240)
    async with serving(app, concurrency=concurrency):
        await all_end(handles)
    shares = Counter(docks.began[:200])
    assert {queue: round(shares[queue] / 20) for queue in QUEUES} == pytest.approx(QUEUES, abs=2)
    assert shares["bulk"] >= 8


async def test_the_share_of_an_empty_queue_goes_to_the_others_and_it_has_saved_nothing_up(app: Stoker, docks: Docks):
    docks.seconds = 0.005
    early = await docks.fill(bulk=200)
    async with serving(app, concurrency=5):
        await until(lambda: len(docks.began) > 50)
        assert set(docks.began) == {"bulk"}
        receipts = await app.enqueue_many([docks.ships["critical"].options().prepare() for _ in range(40)])
        for receipt in receipts:
            await app.client.wait("critical", receipt.id, 20)
        assert Counter(docks.began)["bulk"] < 120, "the newcomer has six of seven slots"
        between = docks.began[docks.began.index("critical") :][:40]
        assert Counter(between)["bulk"] >= 3, "and not all of them"
        await all_end(early)


async def test_strictly_the_first_queue_goes_first(app: Stoker, docks: Docks):
    docks.seconds = 0.002
    handles = await docks.fill(critical=60, normal=60, bulk=60)
    async with serving(app, weights=False, strict=True, concurrency=4):
        await all_end(handles)
    first, second = docks.began[:60], docks.began[60:120]
    assert Counter(first)["critical"] > 50
    assert Counter(second)["normal"] > 50


async def test_a_task_in_any_of_them_wakes_the_idle_worker(app: Stoker, docks: Docks):
    async with serving(app, concurrency=2):
        await all_end(await docks.fill(critical=1, normal=1, bulk=1))
        for queue in QUEUES:
            [handle] = (await docks.fill(**{queue: 1}))[queue]
            await asyncio.wait_for(handle.result(timeout=20), 4)  # less than a wait that brings nothing


async def test_a_paused_and_a_rate_limited_queue_hold_up_no_other(app: Stoker, docks: Docks):
    inspector = app.client.inspector
    await inspector.pause("critical")
    held = await docks.fill(critical=20)
    async with serving(app, concurrency=2):
        await all_end(await docks.fill(normal=50, bulk=50))
        assert not Counter(docks.began)["critical"]
        await inspector.resume("critical")
        await all_end(held)


async def test_each_queue_has_its_own_rate_limit(app: Stoker, docks: Docks):
    handles = await docks.fill(critical=12, bulk=2)
    async with serving(app, "critical", "bulk", concurrency=4, rate_limit=RateLimit(10, 2)):
        await all_end({"bulk": handles["bulk"]})
        assert Counter(docks.began)["critical"] < 12
        await all_end(handles)


async def test_a_queue_whose_keys_are_broken_stops_no_other(app: Stoker, docks: Docks, redis: Redis):
    handles = await docks.fill(normal=30, bulk=30)
    await redis.set(Keys(app.namespace, "critical").ready, "not a sorted set")
    port = free_port()
    async with serving(app, concurrency=2, port=port):
        await all_end(handles)
        await until(lambda: answers(port, 200))
        await redis.delete(Keys(app.namespace, "critical").ready)
        await all_end(await docks.fill(critical=3))


async def answers(port: int, status: int) -> bool:
    return (await probe(port, "/readyz"))[0] == status


async def test_a_task_on_its_last_life_has_the_process_to_itself(app: Stoker, docks: Docks, redis: Redis):
    running, beside = set[int](), list[int]()

    @app.task(queue="normal")
    async def other(number: int) -> None:
        running.add(number)
        await asyncio.sleep(0.01)
        running.discard(number)

    @app.task(queue="critical")
    async def culprit() -> None:
        for _ in range(20):
            beside.append(len(running))
            await asyncio.sleep(0.002)

    keys = Keys(app.namespace, "critical")
    doomed = await culprit.enqueue()
    score = await redis.zscore(keys.ready, doomed.id)
    await redis.zrem(keys.ready, doomed.id)
    await redis.zadd(keys.suspects, {doomed.id: score})
    await redis.hset(keys.lost, doomed.id, "2")  # type: ignore[misc]
    others = [await other.enqueue(number) for number in range(60)]
    async with serving(app, "critical", "normal", concurrency=4):
        await all_end({"critical": [doomed], "normal": others})
    assert set(beside) == {0}


async def test_metrics_logs_and_lists_of_workers_name_the_queues(app: Stoker, docks: Docks, caplog: pytest.LogCaptureFixture):
    port = free_port()
    caplog.set_level(logging.INFO)
    async with serving(app, port=port, concurrency=7):
        await all_end(await docks.fill(critical=2, normal=1))
        seen = await until(lambda: counted(port))
        for queue in QUEUES:
            assert seen[f"stoker_worker_slots{{namespace=stoker,queue={queue},state=free}}"] == 7
            [stats] = await app.client.inspector.stats([queue])
            assert stats.workers == 1
    started = next(record for record in caplog.records if record.getMessage() == "worker started")
    assert started.__dict__["queue"] == "critical, normal, bulk"
    ended = [record.__dict__["queue"] for record in caplog.records if record.getMessage() == "task succeeded"]
    assert Counter(ended) == {"critical": 2, "normal": 1}


async def counted(port: int) -> dict[str, float]:
    seen = await samples(port)
    done = seen.get("stoker_tasks_succeeded_total{namespace=stoker,queue=critical,task=ship_critical}")
    return seen if done == 2 else {}


async def test_without_a_name_it_serves_the_queues_of_its_tasks(app: Stoker, docks: Docks, caplog: pytest.LogCaptureFixture):
    async with working(app, queue=""):
        await all_end(await docks.fill(critical=1, normal=1, bulk=1))
    async with working(app, queue="default"):
        pass
    [warning] = [record.getMessage() for record in caplog.records if "no task of the application" in record.getMessage()]
    assert warning == "no task of the application is in default: its tasks are in bulk, critical, normal"


async def test_a_drain_finishes_what_runs_in_all_queues_and_takes_no_more(app: Stoker, docks: Docks):
    docks.seconds = 0.3
    handles = await docks.fill(critical=3, normal=3, bulk=3)
    async with serving(app, concurrency=6):
        await until(lambda: len(docks.began) == 6)
    states = Counter([(await handle.status()).state.value for each in handles.values() for handle in each])
    assert states == {"succeeded": 6, "ready": 3}
