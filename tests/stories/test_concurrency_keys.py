"""A concurrency key: a limited number of one customer's tasks run at a time, while those of others go on."""

import asyncio
from collections import Counter

from stoker import Concurrency, Stoker
from stoker.manifest.policies import Lease
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from tests.stories.working import working
from tests.waiting import until


async def test_a_customer_has_two_at_a_time_and_the_others_go_on(app: Stoker) -> None:
    running: Counter[int] = Counter()
    most: Counter[int] = Counter()
    order: dict[int, list[int]] = {1: [], 2: []}

    @app.task(concurrency=Concurrency("customer:{customer}", limit=2))
    async def bill(customer: int, number: int) -> None:
        running[customer] += 1
        most[customer] = max(most[customer], running[customer])
        order[customer].append(number)
        await asyncio.sleep(0.02)
        running[customer] -= 1

    handles = [await bill.enqueue(1, number) for number in range(20)]
    handles += [await bill.enqueue(2, number) for number in range(4)]
    async with working(app, concurrency=16):
        for handle in handles[20:]:
            await handle.result(timeout=5)
        assert len(order[1]) < 20, "customer 2 did not wait for customer 1"
        for handle in handles:
            await handle.result(timeout=5)
    assert most == {1: 2, 2: 2}
    assert order == {1: list(range(20)), 2: list(range(4))}


async def test_the_next_one_starts_at_once(app: Stoker) -> None:
    """Nobody polls: ten tasks one after another take no longer than their round trips."""

    @app.task()
    async def bill() -> None: ...

    call = bill.options(concurrency=Concurrency("the press"))
    loop = asyncio.get_running_loop()
    async with working(app):
        begun = loop.time()
        for handle in [await call.enqueue() for _ in range(20)]:
            await handle.result(timeout=5)
        assert loop.time() - begun < 2


async def test_a_parked_task_tells_what_it_waits_for(app: Stoker) -> None:
    may_end = asyncio.Event()

    @app.task(concurrency=Concurrency("customer:{customer}"))
    async def bill(customer: int) -> None:
        await may_end.wait()

    first, second = await bill.enqueue(7), await bill.enqueue(7)
    async with working(app, lease=Lease(Duration(5))):
        await until(lambda: parked(app))
        status = await second.status()
        assert (status.state, status.parked) == (TaskState.READY, "customer:7")
        may_end.set()
        await first.result(timeout=5)
        await second.result(timeout=5)


async def parked(app: Stoker) -> bool:
    [stats] = await app.client.inspector.stats(["default"])
    return stats.parked == 1
