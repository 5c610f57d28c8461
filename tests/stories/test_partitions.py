"""A queue too busy for one Redis server is spread over several; to those who use it, it stays one queue."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stoker import Concurrency, Context, Invalid, Stoker, Unique
from stoker.client.client import Client
from stoker.queue.partitions import Partitions
from stoker.queue.reads.inspector import Cancellation
from stoker.rules.states import TaskState
from tests.redis_servers import Kind
from tests.redis_topologies import ClusterOf, running_cluster
from tests.stories.apps import bakery
from tests.stories.working import worker_process, working
from tests.waiting import until

MANY = 300


@pytest.fixture
async def spread(app: Stoker) -> Stoker:
    """An application whose `default` queue has three partitions: a worker has said so."""
    async with working(app, partitions=3):
        await until(lambda: known_places(app, 3))
    return app


async def known_places(app: Stoker, count: int) -> bool:
    return len(await app.client.inspector.queues()) == count


async def lie_in(app: Stoker) -> list[int]:
    """How many tasks are ready in each partition."""
    return [each.ready for each in await app.client.inspector.stats(["default", "default:1", "default:2"])]


async def test_its_tasks_lie_everywhere_and_one_worker_runs_them_all(spread: Stoker):
    @spread.task()
    async def double(number: int) -> int:
        return number * 2

    handles = [await double.enqueue(number) for number in range(MANY)]
    assert min(await lie_in(spread)) > MANY / 6
    async with working(spread, partitions=3):
        assert [await handle.result(timeout=20) for handle in handles] == [number * 2 for number in range(MANY)]


async def test_many_at_once_come_back_in_order(spread: Stoker):
    @spread.task()
    async def double(number: int) -> int:
        return number * 2

    receipts = await spread.enqueue_many(double.options().prepare(number) for number in range(MANY))
    async with working(spread, partitions=3):
        ends = [await spread.client.wait("default", receipt.id, 20) for receipt in receipts]
    assert [int(bytes(end.result.value)) for end in ends if end.result] == [number * 2 for number in range(MANY)]


async def test_an_id_is_one_task_wherever_it_lies(spread: Stoker):
    @spread.task()
    async def pay(order: int) -> int:
        return order

    first = [await pay.options(id=f"order-{number}").enqueue(number) for number in range(30)]
    again = [await pay.options(id=f"order-{number}").enqueue(number) for number in range(30)]
    assert not any(handle.duplicate for handle in first)
    assert all(handle.duplicate for handle in again)
    assert sum(await lie_in(spread)) == 30


async def test_uniqueness_and_concurrency_keys_hold_across_partitions(spread: Stoker):
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @spread.task(unique=Unique(key=lambda customer: customer))
    async def remind(customer: str) -> None: ...

    @spread.task(concurrency=Concurrency("{customer}", 1))
    async def bill(customer: str, ctx: Context) -> None:
        running[customer] += 1
        most[customer] = max(most[customer], running[customer])
        await until(lambda: True)
        running[customer] -= 1

    reminders = [await remind.enqueue(f"customer-{number % 5}") for number in range(50)]
    assert len({handle.id for handle in reminders}) == 5
    bills = [await bill.enqueue(f"customer-{number % 5}") for number in range(50)]
    async with working(spread, partitions=3):
        for handle in bills:
            await handle.result(timeout=20)
    assert set(most.values()) == {1}

    both = bill.options(unique=Unique())
    with pytest.raises(Invalid, match="either unique or has a concurrency key"):
        await both.enqueue("customer-1")


async def test_people_deal_with_the_queue_as_one(spread: Stoker):
    @spread.task()
    async def fail(number: int) -> None:
        raise RuntimeError("no")

    inspector = spread.client.inspector
    handles = [await fail.enqueue(number) for number in range(30)]
    assert await handles[0].cancel() is Cancellation.CANCELLED
    assert await inspector.pause("default")
    assert not await inspector.pause("default")
    async with working(spread, partitions=3):
        assert sum(await lie_in(spread)) == 29
        assert await inspector.resume("default")

        async def all_dead() -> bool:
            [whole] = await inspector.totals([["default", "default:1", "default:2"]])
            return whole.dead == 29

        await until(all_dead)
    inspector = spread.client.inspector  # the worker has closed the one before
    assert [finding async for finding in inspector.examine("default")] == []
    dead = [handle.id for handle in handles[1:]]
    assert sorted(await inspector.redrive("default", dead[:4])) == sorted(dead[:4])
    assert sum([len(page) async for page in inspector.redrive_all("default", failure="RuntimeError")]) == 25
    assert sum([gone async for gone in inspector.purge("default", TaskState.READY)]) == 29


async def test_raising_the_number_of_partitions_loses_no_task_and_lowering_it_is_ignored(app: Stoker):
    @app.task()
    async def add(a: int, b: int) -> int:
        return a + b

    early = [await add.enqueue(number, 1) for number in range(20)]
    async with working(app, partitions=4):
        await until(lambda: known_places(app, 4))
    partitions = Partitions(app.client._redis, app.namespace)
    assert await partitions.register("default", 2) == ["default", "default:1", "default:2", "default:3"]
    late = Client.at(app.redis_url, app.namespace)
    receipts = await late.enqueue([add.options().prepare(number, 1) for number in range(40)])
    assert all(stats.ready for stats in await late.inspector.stats(["default:1", "default:2", "default:3"]))
    async with working(app, partitions=1):
        assert [await handle.result(timeout=20) for handle in early] == [number + 1 for number in range(20)]
        for receipt in receipts:
            await late.wait("default", receipt.id, 20)
    await late.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterOf]:
    with running_cluster(Kind.VALKEY_9) as found:
        yield found


async def test_over_three_nodes_and_a_worker_that_dies(cluster: ClusterOf, opened: Callable[[str], Stoker], tmp_path: Path):
    """Nine partitions lie on all nodes; what a killed worker held runs again."""
    app = opened(cluster.url)
    rise = app.task(name="rise")(bakery.rise.__wrapped__)
    with worker_process(cluster.url, tmp_path, "--partitions", "9", "--concurrency", "18", name="one") as one:

        async def places() -> list[str]:
            return await app.client.inspector.queues()

        async def all_known() -> bool:
            return len(await places()) == 9

        await until(all_known)
        assert len({cluster.owner(f"{{stoker:{place}}}:ready").port for place in await places()}) == 3
        handles = [await rise.enqueue(1) for _ in range(60)]

        async def busy() -> bool:
            return sum(stats.running > 0 for stats in await app.client.inspector.stats(await places())) >= 8

        await until(busy)
        one.process.kill()
    with worker_process(cluster.url, tmp_path, "--partitions", "9", "--concurrency", "36", name="two"):
        attempts = Counter([await handle.result(timeout=30) for handle in handles])
    assert attempts[1] > 0
    assert attempts[2] > 0
