"""How a worker keeps Redis busy while it works itself, and what it must not take while it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from stoker.queue.broker import Broker
from stoker.queue.records import Delivery, Holds, Turn
from stoker.queue.settlements import Settlement
from stoker.rules.identity import QueueId
from stoker.rules.losses import is_suspect
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop import solitude
from stoker.worker.loop.capacity import FETCHES_AT_ONCE
from stoker.worker.loop.prefetch import MAX_WAIT, SLOTS_PER_PREFETCH
from stoker.worker.loop.turns import Turns
from tests.engine.line import DONE, Line, open_line
from tests.waiting import until

SLOTS, FIRST = 80, 60


class WatchedBroker(Broker):
    """Remembers how many round trips were under way at once, and what came with wake-ups."""

    under_way = most = came_when_woken = 0

    async def wait_and_take(self, *given: Any, **more: Any) -> Turn | None:
        turn = await super().wait_and_take(*given, **more)
        self.came_when_woken += len(turn.deliveries) if turn else 0
        return turn

    async def turn(self, *given: Any, **more: Any) -> Turn:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().turn(*given, **more)
        finally:
            self.under_way -= 1


class Worker:
    """Runs every task at once, but for the one that it is `long` at, and knows what it holds."""

    def __init__(self, line: Line, name: str, long: str) -> None:
        self.broker = WatchedBroker(line.redis, line.keys, line.broker._lease)  # type: ignore[arg-type]
        metrics = WorkerMetrics(CollectorRegistry(), QueueId("stoker", "emails"), SLOTS)
        self.turns = Turns(name, SLOTS, self.broker, metrics, self.start, lambda: self.busy)
        self.deliveries: list[Delivery] = []
        self.open: list[Delivery] = []
        self._long = long
        self.order: list[str] = []
        self.sticks_after = 10_000
        self.busy = self.most_busy = self.most_suspects = 0
        self._suspects: set[str] = set()
        self.neighbours: dict[str, set[str]] = {}  # of each task, what was held beside it when it began

    def start(self, delivery: Delivery) -> None:
        self.order.append(delivery.id)
        self.deliveries.append(delivery)
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        self._suspects = {fence for fence in self._suspects if fence in self.turns.held}
        self.neighbours[delivery.id] = set(self.turns.held.values()) - {delivery.id}
        if is_suspect(delivery.losses):
            self._suspects.add(delivery.fence)
            self.most_suspects = max(self.most_suspects, len(self._suspects))
        if delivery.id == self._long or len(self.order) > self.sticks_after:
            self.open.append(delivery)
        else:
            asyncio.get_running_loop().call_soon(self.end, delivery)

    def end(self, delivery: Delivery) -> None:
        self.busy -= 1
        self.turns.settle(Settlement(delivery.id, delivery.fence, DONE))


@asynccontextmanager
async def working(line: Line, name: str = "w", long: str = "") -> AsyncIterator[Worker]:
    worker = Worker(line, name, long)
    await line.beat(worker=name)
    running = asyncio.create_task(worker.turns.run())
    try:
        yield worker
    finally:
        worker.turns.drain()
        for delivery in worker.open:
            worker.end(delivery)
        await running


async def test_under_load_the_next_tasks_are_fetched_while_others_run(line: Line):
    tasks = [f"t{number:04}" for number in range(1000)]
    await line.enqueue(*tasks)
    async with working(line) as worker:
        await until(lambda: len(worker.order) == len(tasks))
    assert worker.order == tasks
    assert worker.broker.most == FETCHES_AT_ONCE
    assert worker.most_busy <= SLOTS
    assert (await line.stats()).totals.succeeded == len(tasks)


async def test_an_idle_worker_looks_once_for_one_task(line: Line):
    async with working(line) as worker:
        for number in range(20):
            await line.enqueue(f"t{number}")
            await until(lambda: len(worker.order) == number + 1)  # noqa: B023
        assert worker.broker.most == 1


async def taken_ahead(worker: Worker, line: Line) -> list[str]:
    """Tasks were short, some are taken ahead, and none ends any more. Returns all of them."""
    tasks = [f"t{number:04}" for number in range(1000)]
    worker.sticks_after = 500
    await line.enqueue(*tasks)
    await until(lambda: len(worker.open) == SLOTS and set(worker.turns.held.values()) - set(worker.order))
    assert len(worker.turns.held) <= SLOTS + SLOTS // SLOTS_PER_PREFETCH
    return tasks


async def first_in_line(line: Line) -> list[str]:
    return (await line.order())[:FIRST]


async def given_back(worker: Worker, within: float = 10) -> None:
    await until(lambda: set(worker.turns.held.values()) <= set(worker.order) and not worker.broker.under_way, within=within)


async def test_where_tasks_are_short_some_are_taken_ahead_and_a_draining_worker_gives_them_back(line: Line):
    async with working(line) as worker:
        tasks = await taken_ahead(worker, line)
        worker.turns.drain()
        await given_back(worker)
    stats = await line.stats()
    assert (stats.totals.released > 0, stats.totals.failed, stats.running) == (True, 0, 0)
    assert await first_in_line(line) == tasks[len(worker.order) :][:FIRST], "at the places that they had"


async def test_what_was_taken_ahead_of_a_long_task_goes_back_within_a_second_or_two(line: Line):
    async with working(line) as worker:
        tasks = await taken_ahead(worker, line)
        await given_back(worker, within=MAX_WAIT + 2)
        assert await first_in_line(line) == tasks[len(worker.order) :][:FIRST]


async def test_what_an_idle_worker_is_woken_for_comes_with_the_wake_up(line: Line):
    async with working(line) as worker:
        await line.enqueue("a")
        await until(lambda: worker.order == ["a"])
        await until(lambda: blocked(line, 1))
        before = worker.broker.came_when_woken
        for number in range(5):
            await line.enqueue(f"b{number}", f"c{number}")
            await until(lambda: len(worker.order) == 3 + 2 * number)  # noqa: B023
            await until(lambda: blocked(line, 1))
        assert worker.broker.came_when_woken == before + 10


async def test_nothing_is_lost_where_a_wake_up_and_the_end_of_a_worker_meet(line: Line):
    """What a worker has fetched it runs or gives back; what comes later it does not fetch."""
    for number in range(25):
        async with working(line, f"w{number}") as worker:
            await until(lambda: blocked(line, 1))
            sent = asyncio.create_task(line.enqueue(f"t{number}"))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            worker.turns.drain()
            await sent
    stats = await line.stats()
    assert (stats.running, stats.totals.succeeded + stats.ready, stats.totals.stale_settles) == (0, 25, 0)


async def test_a_fetch_behind_a_wait_brings_nothing_once_its_worker_is_quiet(line: Line):
    await line.fetch()  # the server knows the script by now
    await line.beat(worker="w")
    waits = asyncio.create_task(line.broker.wait_and_take(10, "w", 60))
    await until(lambda: blocked(line, 1))
    await line.broker.quiet("w")
    await line.enqueue("a")
    assert (await waits, (await line.stats()).ready) == (None, 1)
    await line.broker.forget_worker("w")
    await line.beat(worker="w")
    turn = await line.broker.wait_and_take(10, "w", 60)
    assert turn
    assert [each.id for each in turn.deliveries] == ["a"], "nothing is kept of a worker that has left"


async def test_a_worker_that_was_silent_for_a_lease_gets_nothing_by_a_fetch_that_waited_and_another_is_woken(line: Line):
    """It may be frozen, or cut off: what it took now would be lost for another lease."""
    await line.fetch()
    await line.beat(worker="frozen")
    waits = asyncio.create_task(line.broker.wait_and_take(10, "frozen", 60))
    await until(lambda: blocked(line, 1))
    async with working(line, "other") as other:
        await until(lambda: blocked(line, 2))
        await line.pass_time(31)
        await line.beat(worker="other")
        await line.enqueue("a")
        await until(lambda: other.order == ["a"], within=3)
        assert await waits is None


async def test_a_quiet_worker_takes_nothing_though_it_waits(line: Line):
    async with working(line) as worker:
        await until(lambda: blocked(line, 1))
        worker.turns.quiet()
        await until(lambda: blocked(line, 0))
        await line.enqueue("a")
        assert (await line.stats()).ready == 1
    assert worker.order == []
    assert await line.order() == ["a"]


async def become_suspects(line: Line, *ids: str, priority: int = 0) -> None:
    await line.enqueue(*ids, priority=priority)
    for _ in range(2):
        assert len(await line.fetch(len(ids), "dead")) == len(ids)
        await line.pass_time(31)
        await line.broker.reap()


async def test_two_turns_under_way_bring_one_suspect_at_most(line: Line):
    """They come up last, when both of the turns under way could bring one."""
    suspects, others = [f"s{number:02}" for number in range(20)], [f"t{number:04}" for number in range(1000)]
    await become_suspects(line, *suspects, priority=-1)
    await line.enqueue(*others)
    async with working(line) as worker:
        await until(lambda: len(worker.order) == len(suspects) + len(others))
    assert worker.order == others + suspects
    assert worker.most_suspects == 1


async def test_who_holds_a_suspect_lets_another_have_the_next(redis_url: str):
    """It is woken first, since it has waited longest, and may not take what it was woken for."""
    async with open_line(redis_url, max_lost=5) as line:
        await become_suspects(line, "s1")
        await line.enqueue("s2")
        for _ in range(2):
            await line.pass_time(31)
            await line.broker.reap()
            assert [delivery.id for delivery in await line.fetch(1, "dead", Holds.SUSPECT)] == ["s2"]
        async with working(line, "holder", long="s1") as holder:
            await until(lambda: holder.order == ["s1"])
            await until(lambda: blocked(line, 1))
            async with working(line, "other") as other:
                await until(lambda: blocked(line, 2))
                await line.pass_time(31)
                await line.beat(*holder.deliveries, worker="holder")
                await line.broker.reap()
                await until(lambda: other.order == ["s2"], within=2)
        assert (await line.stats()).totals.succeeded == 2


async def test_a_busy_worker_clears_for_a_task_on_its_last_life(line: Line):
    """It takes no more, runs that task alone as soon as nothing else runs, and then goes on."""
    await become_suspects(line, "suspect", priority=-1)
    await line.enqueue("long")
    await line.enqueue("a", "b", priority=-2)
    async with working(line, long="long") as worker:
        await until(lambda: worker.order == ["long"])
        await until(lambda: worker.turns._capacity.clearing)
        await asyncio.sleep(0.2)
        assert worker.order == ["long"]
        worker.end(worker.open.pop())
        await until(lambda: len(worker.order) == 4)
    assert worker.order == ["long", "suspect", "a", "b"]
    assert worker.neighbours["suspect"] == set()


async def test_an_idle_worker_runs_it_meanwhile(line: Line):
    await become_suspects(line, "suspect", priority=-1)
    await line.enqueue("long")
    async with working(line, "busy", long="long") as busy:
        await until(lambda: busy.turns._capacity.clearing)
        async with working(line, "idle") as idle:
            await until(lambda: idle.order == ["suspect"], within=5)
            await line.enqueue("a", "b", "c")
            await until(lambda: len(busy.order) + len(idle.order) == 5, within=5)
        busy.end(busy.open.pop())


async def test_a_run_that_waits_for_another_task_is_not_waited_for_without_end(line: Line, monkeypatch: pytest.MonkeyPatch):
    """While it clears the other task is not taken either: so it clears for a while, and takes tasks for a while."""
    for name, seconds in {"PATIENCE": 0.3, "REST": 0.3, "ASK_AGAIN": 0.1}.items():
        monkeypatch.setattr(solitude, name, seconds)
    await become_suspects(line, "suspect", priority=-1)
    await line.enqueue("parent")
    async with working(line, long="parent") as worker:
        await until(lambda: worker.turns._capacity.clearing)
        await line.enqueue("child", priority=-2)
        await until(lambda: worker.order == ["parent", "child"])
        worker.end(worker.open.pop())
        await until(lambda: worker.order == ["parent", "child", "suspect"])
    assert worker.neighbours["suspect"] == set()


async def test_tasks_on_their_last_life_follow_each_other_and_let_others_pass_by_no_one(line: Line):
    """Also where turns overlap, and a wait is in flight: none of them ever has a neighbour."""
    suspects, others = [f"s{number:02}" for number in range(10)], [f"t{number:04}" for number in range(500)]
    await become_suspects(line, *suspects, priority=-1)
    await line.enqueue(*others[:250])
    async with working(line, "one") as one, working(line, "two") as two:
        await until(lambda: len(one.order) + len(two.order) > 100)
        await line.enqueue(*others[250:], priority=-1)
        await until(lambda: len(one.order) + len(two.order) == len(suspects) + len(others))
    for worker in (one, two):
        assert all(worker.neighbours[name] == set() for name in suspects if name in worker.order)


async def blocked(line: Line, count: int) -> bool:
    """Whether so many workers wait for a wake-up."""
    return int((await line.redis.info("clients"))["blocked_clients"]) == count


async def test_suspects_get_their_turn_from_a_worker_that_is_never_idle(line: Line):
    suspects, others = [f"s{number:02}" for number in range(10)], [f"t{number:04}" for number in range(3000)]
    await become_suspects(line, *suspects)
    await line.enqueue(*others)
    async with working(line) as worker:
        await until(lambda: len(worker.order) == len(suspects) + len(others))
    assert [each for each in worker.order if each in suspects] == suspects
    assert worker.order.index(suspects[-1]) < 2000, "they came first, and each takes two or three round trips of 40"
