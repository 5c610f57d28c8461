"""Promises that only large numbers put to the test: races by the thousand, a crowd due at once, long tasks in the way."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from stoker.manifest.policies import Keep
from stoker.queue.broker import ENQUEUED_AT_ONCE
from stoker.queue.reads.inspector import Inspector
from stoker.queue.records import Delivery
from stoker.queue.scripts import chunks
from stoker.queue.settlements import Settlement
from stoker.rules.settle import Bury, Release, Retry, Transition
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from tests.engine.line import DONE, FAILURE, LEASE, QUEUE, Line, open_line
from tests.redis_servers import Kind, Server, running_valkey

T = TypeVar("T")
RACES, AT_ONCE = 10_000, 100
CROWD = 100_000
LONGEST_SCRIPT_MS = 50
ENDS: tuple[Transition, ...] = (DONE, DONE, Bury(FAILURE), Retry(0, FAILURE), Release())


SERVERS = [pytest.param(Kind.VALKEY_9, id="valkey-9"), pytest.param(Kind.REDIS_7, id="redis-7.0", marks=pytest.mark.nightly)]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running_valkey(kind=request.param) as running:
        yield running


@pytest.fixture
async def large(server: Server) -> AsyncIterator[Line]:
    server.flush()
    async with open_line(server.url, succeeded=Keep(Duration(3600), CROWD)) as opened:
        yield opened


async def settle_all(line: Line, ends: list[Settlement]) -> None:
    await line.broker.turn(ends, 0, "w")


@pytest.mark.timeout(300)
async def test_ten_thousand_races_of_cancel_and_settle(large: Line, server: Server) -> None:
    """Both at the same moment, over connections of their own: every task ends in exactly one way, and is counted once."""
    dice = random.Random(1)
    async with open_line(server.url) as other:
        for first in range(0, RACES, AT_ONCE):
            await large.enqueue(*(f"t{first + number}" for number in range(AT_ONCE)))
            held = await large.fetch(AT_ONCE)
            ends = [Settlement(each.id, each.fence, dice.choice(ENDS)) for each in held]
            sides = [settle_all(large, [end]) for end in ends] + [
                other.inspector.cancel(QUEUE, [each.id]) for each in held if dice.random() < 0.9
            ]
            dice.shuffle(sides)
            await asyncio.gather(*sides)
            while left := await large.fetch(AT_ONCE):  # what was released or is tried again before the wish came
                await settle_all(large, [Settlement(each.id, each.fence, DONE) for each in left])
    stats = await large.stats()
    assert (stats.ready, stats.running, stats.scheduled) == (0, 0, 0)
    assert stats.totals.succeeded + stats.totals.dead + stats.totals.cancelled == RACES
    assert (stats.succeeded, stats.dead, stats.cancelled) == (stats.totals.succeeded, stats.totals.dead, stats.totals.cancelled)
    assert min(stats.succeeded, stats.dead, stats.cancelled) > RACES / 50, "each side has won some of the races"


class Stopwatch:
    """How much of a processor's time a server takes for a call: other processes on the machine do not count."""

    def __init__(self, server: Server) -> None:
        assert server.pid
        self._statistics = Path(f"/proc/{server.pid}/task/{server.pid}/schedstat")
        self.longest: Counter[str] = Counter()

    async def time(self, name: str, call: Awaitable[T]) -> T:
        before = self._taken()
        answer = await call
        self.longest[name] = max(self.longest[name], round((self._taken() - before) / 1e6))
        return answer

    def _taken(self) -> int:
        return int(self._statistics.read_text().split()[0])


@pytest.mark.timeout(300)
async def test_a_hundred_thousand_due_in_one_second(large: Line, server: Server) -> None:
    """No call of a script that a worker makes takes more than 50 ms, none comes early, and each comes once."""
    watch, due = Stopwatch(server), (await large.clock()) / 1000 + 3600
    ids = [f"t{number}" for number in range(CROWD)]
    moments = random.Random(2)
    for chunk in chunks(ids, ENQUEUED_AT_ONCE):
        await large.enqueue(*chunk, run_at=due + moments.random())
    assert (await watch.time("stats", large.stats(horizon=7200.0))).due == CROWD
    assert await watch.time("early", large.fetch(AT_ONCE)) == []
    await large.pass_time(due - 1 - (await large.clock()) / 1000)
    assert await watch.time("early", large.fetch(AT_ONCE)) == []
    await large.pass_time(2)

    came: Counter[str] = Counter()
    held: list[Delivery] = []
    while True:
        ends = [Settlement(each.id, each.fence, DONE) for each in held]
        turn = await watch.time("turn", large.broker.turn(ends, AT_ONCE, "w"))
        held = turn.deliveries
        came.update(each.id for each in held)
        moved, _ = await watch.time("promote", large.broker.promote())
        await watch.time("reap", large.broker.reap())
        if not held and not moved:
            break
    assert len(came) == CROWD
    assert max(came.values()) == 1
    await watch.time("stats", large.stats())
    await watch.time("sweep", large.broker.sweep())
    print(f"ms of the server's time for the longest call: {dict(watch.longest)}")
    assert max(watch.longest.values()) <= LONGEST_SCRIPT_MS, watch.longest


@pytest.mark.timeout(120)
async def test_the_dead_are_found_behind_any_number_of_long_tasks(large: Line, server: Server) -> None:
    """One look of the reaper gives back exactly what is lost, however many live tasks were taken before and have been renewed."""
    many = 20_000
    for chunk in chunks([f"long{number}" for number in range(many)], ENQUEUED_AT_ONCE):
        await large.enqueue(*chunk)
    alive = [each for _ in range(many // AT_ONCE) for each in await large.fetch(AT_ONCE, worker="alive")]
    await large.enqueue("lost1", "lost2", "lost3")
    assert len(await large.fetch(3, worker="dead")) == 3
    await large.pass_time(LEASE - 1)
    for chunk in chunks(alive, 1000):
        assert (await large.beat(*chunk, worker="alive")).lost == []
    await large.pass_time(2)
    watch = Stopwatch(server)
    assert (await watch.time("reap", large.broker.reap())).given_back == 3
    assert watch.longest["reap"] <= LONGEST_SCRIPT_MS
    assert {each.id for _ in range(3) for each in await large.fetch(1, worker="another")} == {"lost1", "lost2", "lost3"}
    assert (await large.stats()).running == many + 3


@asynccontextmanager
async def dead_ones(line: Line, count: int) -> AsyncIterator[None]:
    for chunk in chunks([f"t{number}" for number in range(count)], ENQUEUED_AT_ONCE):
        await line.enqueue(*chunk)
    while held := await line.fetch(AT_ONCE):
        await settle_all(line, [Settlement(each.id, each.fence, Bury(FAILURE)) for each in held])
    yield


@pytest.mark.timeout(120)
@pytest.mark.parametrize("state", [TaskState.DEAD, TaskState.READY], ids=lambda state: f"purging {state}")
async def test_a_redrive_races_a_purge_without_loss(large: Line, server: Server, state: TaskState) -> None:
    """Whoever comes first has it: of each dead task it is known whether it went for good or lives again, and none is in between."""
    many, ran = 4000, set()

    async def redrive(inspector: Inspector) -> list[str]:
        return [task_id async for page in inspector.redrive_all(QUEUE) for task_id in page]

    async def purge(inspector: Inspector) -> int:
        gone = 0
        for _ in range(20):
            gone += sum([count async for count in inspector.purge(QUEUE, state)])
            await asyncio.sleep(0)
        return gone

    async def work() -> None:
        for _ in range(40):
            held = await large.fetch(20)
            ran.update(each.id for each in held)
            await settle_all(large, [Settlement(each.id, each.fence, DONE) for each in held])

    async with dead_ones(large, many), open_line(server.url) as second, open_line(server.url) as third:
        lives, again, gone, _ = await asyncio.gather(
            redrive(second.inspector), redrive(large.inspector), purge(third.inspector), work()
        )
        assert not set(lives) & set(again), "of two who redrive the same one does"
        stats = await large.stats()
        redriven = len(lives) + len(again)
        assert stats.totals.redriven == redriven
        assert stats.ready + stats.dead + stats.succeeded + gone == many
        assert stats.succeeded == len(ran)
        if state is TaskState.DEAD:
            assert redriven + gone + stats.dead == many
            assert stats.ready + stats.succeeded == redriven
