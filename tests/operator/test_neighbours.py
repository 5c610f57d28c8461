"""Beside tenants whose Redis servers hang, however many, the queues of others are served. Figures: benchmarks/tenants."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from stoker.manifest.task_queue import parse
from stoker.rules.identity import QueueId
from stoker_operator.queues.reclaimer import EndedPod, Reclaimer
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.findings import Findings, Workers
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.queue_store import QueueStore
from stoker_operator.state.ref import Ref
from tests.hostile_redis import blackhole, hostile_redis
from tests.operator.operating import Queue, unique
from tests.redis_servers import Valkey
from tests.waiting import until

QUEUE = [[QueueId("shop", "a")]]
CROWD, GOOD, OPEN = 400, 20, 200


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    with hostile_redis("silent") as address:
        yield address


async def test_a_crowd_of_silent_servers_takes_no_connection_from_those_that_answer(shared_valkey: Valkey, silent: str) -> None:
    pool = RedisPool(timeout=3.0, max_open=OPEN)
    good = [f"{shared_valkey.url}?client_name=good-{number}" for number in range(GOOD)]
    with blackhole() as nowhere:
        addresses = [f"redis://{silent}/0", f"rediss://{silent}/0", f"redis://{nowhere}/0"]
        bad = [f"{addresses[number % 3]}?client_name=bad-{number}" for number in range(CROWD)]
        for url in good:
            assert [each.problem for each in await pool.probe(url, QUEUE)] == [None]
        stuck = [asyncio.create_task(pool.probe(url, QUEUE)) for url in bad]
        ends = time.monotonic() + 2.0
        while time.monotonic() < ends:
            readings = await asyncio.gather(*(pool.probe(url, QUEUE) for url in good))
            assert [reading.problem for [reading] in readings] == [None] * GOOD
            assert len(pool.open) <= OPEN
        assert not all(each.done() for each in stuck)  # they take turns
        for each in stuck:
            each.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    await pool.close()


@pytest.mark.parametrize("kind", ["drip", "huge", "elements", "reset", pytest.param("deaf", marks=pytest.mark.nightly)])
async def test_what_one_server_does_is_its_own_problem(shared_valkey: Valkey, kind: str) -> None:
    pool = RedisPool(timeout=1.5)
    with hostile_redis(kind) as address:
        for _ in range(1 if kind in {"drip", "deaf"} else 3):
            bad, good = await asyncio.gather(pool.probe(f"redis://{address}/0", QUEUE), pool.probe(shared_valkey.url, QUEUE))
            assert [each.problem for each in good] == [None]
            assert bad[0].stats is None
            assert bad[0].problem
    await pool.close()


def managed(namespace: str, name: str, url: str) -> ManagedQueue:
    metadata = {"name": name, "namespace": namespace}
    spec = {"worker": {"image": "shop:1"}}
    manifest = parse({"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": metadata, "spec": spec})
    return ManagedQueue(Ref(namespace, name), Findings("uid", 1, manifest, url, Workers("uid", 1, 1, 1)), {})


async def test_ended_pods_of_a_tenant_whose_redis_hangs_delay_no_others(shared_valkey: Valkey, silent: str) -> None:
    """Also of one that makes pods with the label of a TaskQueue that is not there."""
    name = unique("emails")
    queue = Queue(shared_valkey.url, "well", name)
    await queue.enqueue(2)
    assert len((await queue.broker.turn([], 2, "pod-1-7-abcdef")).deliveries) == 2
    store = QueueStore()
    for each in (managed("stuck", "a", f"redis://{silent}/0"), managed("well", name, shared_valkey.url)):
        store._queues[each.ref] = each
    pool = RedisPool(timeout=1.0)
    reclaimer = Reclaimer(store, pool)
    for number in range(20):
        reclaimer.add(EndedPod(Ref("stuck", "a"), f"pod-{number}", f"stuck-{number}"))
        reclaimer.add(EndedPod(Ref("unknown", "b"), f"pod-{number}", f"unknown-{number}"))
    reclaimer.add(EndedPod(Ref("well", name), "pod-1", "well-1"))
    running = asyncio.create_task(reclaimer.run())

    async def given_back() -> bool:
        return (await queue.inspector.stats([name]))[0].ready == 2

    await until(given_back, within=4.0)  # it took 25 s when they waited for each other
    running.cancel()
    await pool.close()
    await queue.close()
