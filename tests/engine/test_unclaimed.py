"""Unclaimed tasks: fetched by a worker that does not know their name, while no living worker does."""

import msgspec
import pytest

from stoker.autoscale.decide import Memory, Policy, decide
from stoker.autoscale.demand import demand_of
from stoker.errors import NotFound
from stoker.manifest.policies import Keep, KeepFor, Retention
from stoker.queue.reads.events import attend
from stoker.queue.reads.inspector import Cancellation
from stoker.queue.records import Holds
from stoker.queue.scripts import ScriptCall, run
from stoker.queue.settlements import Settlement, settle_call
from stoker.rules.concurrency import Limit
from stoker.rules.history import What
from stoker.rules.message import decode
from stoker.rules.settle import Unclaim
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from stoker.rules.why import Cause
from tests.engine.line import DONE, LEASE, QUEUE, Line, now


async def set_aside(line: Line, *ids: str, priority: int = 0, version: int = 0, template: str = "old") -> None:
    await line.enqueue(*ids, priority=priority)
    for delivery in await line.fetch():
        assert await line.unclaim(delivery, version=version, template=template)
    assert (await line.stats()).unclaimed >= len(ids)


async def test_people_see_a_ready_task_and_since_when_no_worker_has_known_it(line: Line) -> None:
    await set_aside(line, "a")
    status = await line.status("a")
    assert (status.state, status.unclaimed is not None, status.attempts, status.failure) == (TaskState.READY, True, 0, None)
    assert [task.id for task in (await line.inspector.tasks(QUEUE, TaskState.READY)).tasks] == ["a"]
    explained = await line.inspector.explain(QUEUE, "a")
    assert [reason.cause for reason in explained.reasons] == [Cause.NO_WORKERS, Cause.UNCLAIMED]
    await line.announce("old", {"resize": 0})
    text = (await line.inspector.explain(QUEUE, "a")).text
    assert "no live worker knew a task named 'add'" in text
    assert text.endswith("known tasks: resize")


async def test_it_is_not_ready_in_statistics_and_wakes_no_worker(line: Line) -> None:
    await set_aside(line, "a", "b")
    await now(line.redis.delete(line.keys.wake))
    await line.enqueue("later", delay=60)
    stats = await line.stats()
    assert (stats.ready, stats.unclaimed, stats.oldest_wait, stats.totals.unclaimed) == (0, 2, 0, 2)
    assert await line.fetch() == []
    assert await now(line.redis.llen(line.keys.wake)) == 0


async def test_a_worker_that_does_not_hold_it_changes_nothing(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.settle(delivery, DONE)
    assert not await line.unclaim(delivery)
    assert (await line.stats()).unclaimed == 0


@pytest.mark.parametrize(
    ("announced", "aside"),
    [
        pytest.param({"add": 1}, False, id="the version it was enqueued with"),
        pytest.param({"add": 2}, False, id="a newer version"),
        pytest.param({"add": 0}, True, id="an older version"),
        pytest.param({"subtract": 5, "ad": 5, "addition": 5}, True, id="other names"),
        pytest.param({}, True, id="nothing"),
        pytest.param(None, False, id="too many names to list"),
    ],
)
async def test_a_living_worker_that_knows_it_gets_it(line: Line, announced: dict[str, int] | None, aside: bool) -> None:
    await line.announce("new", announced)
    await line.enqueue("a")
    [delivery] = await line.fetch()
    assert await line.unclaim(delivery, version=1)
    status = await line.status("a")
    assert (status.state, status.unclaimed is not None) == (TaskState.READY if aside else TaskState.SCHEDULED, aside)


async def test_a_worker_that_has_ended_knows_nothing_and_one_that_names_no_template_may_know_all(line: Line) -> None:
    await line.announce("new", {"add": 0})
    await line.pass_time(LEASE + 1)
    await set_aside(line, "a")
    await line.beat(worker="of an older version")
    await line.enqueue("b")
    [delivery] = await line.fetch()
    await line.unclaim(delivery)
    assert (await line.status("b")).state is TaskState.SCHEDULED


async def test_a_worker_s_own_template_does_not_speak_for_the_task(line: Line) -> None:
    """It has just met a task that it does not know, whatever was announced."""
    await line.announce("large", None)
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.unclaim(delivery, template="large")
    assert (await line.stats()).unclaimed == 1


async def test_announcing_a_name_releases_its_tasks_at_their_old_ranks(line: Line) -> None:
    await set_aside(line, "first", "second")
    await set_aside(line, "urgent", priority=9)
    await set_aside(line, "of the next version", version=2)
    await line.enqueue("third")
    await now(line.redis.delete(line.keys.wake))
    assert await line.announce("new", {"add": 1, "mul": 0}) == 3
    assert await now(line.redis.llen(line.keys.wake)) == 1
    assert (await line.stats()).unclaimed == 1
    assert await line.order() == ["urgent", "first", "second", "third"]


async def test_a_large_template_releases_all_and_in_bounded_steps(line: Line) -> None:
    await set_aside(line, *(f"t{number}" for number in range(100)))
    replies = [(await run(line.redis, ScriptCall("announce", line.keys, ["new", "", 60])))[0] for _ in range(2)]
    assert replies == [[60, 1], [40, 0]]


async def test_a_template_sees_each_task_once(line: Line) -> None:
    """One that has announced and does not know it is no reason to start it again."""
    await set_aside(line, "a")
    stats = await line.stats()
    assert (stats.unseen_by("old"), stats.unseen_by("new")) == (1, 1), "neither has announced what it knows"
    await line.announce("old", {"resize": 0})
    await line.announce("new", {"resize": 0})
    stats = await line.stats()
    assert (stats.unseen_by("old"), stats.unseen_by("new"), stats.unseen_by("newest")) == (0, 0, 1)
    await line.pass_time(1)
    await set_aside(line, "b", template="new")
    stats = await line.stats()
    assert (stats.unseen_by("new"), stats.unseen_by("newest")) == (0, 2), "who sets a task aside has seen it"


async def test_a_worker_that_counted_as_dead_is_to_announce_again(line: Line) -> None:
    assert (await line.beat(worker="w")).announce
    assert not (await line.beat(worker="w")).announce
    await line.pass_time(LEASE + 1)
    assert (await line.beat(worker="w")).announce


async def test_it_can_be_cancelled_and_purged(line: Line) -> None:
    await set_aside(line, "a", "b")
    assert await line.inspector.cancel(QUEUE, ["a"]) == [Cancellation.CANCELLED]
    assert (await line.status("a")).state is TaskState.CANCELLED
    assert [gone async for gone in line.inspector.purge(QUEUE, TaskState.READY)] == [1]
    with pytest.raises(NotFound):
        await line.status("b")
    assert (await line.stats()).unclaimed == 0
    assert await line.announce("new", {"add": 0}) == 0


async def test_a_cancellation_that_was_requested_comes_first(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.inspector.cancel(QUEUE, ["a"])
    assert await line.unclaim(delivery)
    assert (await line.status("a")).state is TaskState.CANCELLED


async def test_its_concurrency_key_has_room_for_another(line: Line) -> None:
    await line.enqueue("a", "b", limit=Limit("a customer", 1))
    [delivery] = await line.fetch()
    await line.unclaim(delivery)
    assert await line.order() == ["b"]
    await line.announce("new", {"add": 0})
    assert await line.order() == [], "b runs"
    assert (await line.status("a")).parked == "a customer"


async def test_a_task_that_was_lost_before_is_a_suspect_again(line: Line) -> None:
    await line.enqueue("a")
    for _ in range(2):
        await line.fetch()
        await line.pass_time(LEASE + 1)
        await line.broker.reap()
    [delivery] = await line.fetch()
    await line.unclaim(delivery)
    await line.announce("new", {"add": 0})
    assert await line.fetch(holds=Holds.SUSPECT) == []
    assert await line.order() == ["a"]


async def test_it_is_buried_when_no_worker_ever_comes(line: Line) -> None:
    await set_aside(line, "a", priority=7)
    line.broker._retention = Retention(Keep(Duration(60)), Keep(Duration(60)), KeepFor(Duration(3600)))
    await line.pass_time(3599)
    await line.broker.sweep()
    assert (await line.stats()).unclaimed == 1
    await line.pass_time(1)
    await line.broker.sweep()
    status = await line.status("a")
    assert (status.state, status.failure and status.failure.type) == (TaskState.DEAD, "UnknownTask")
    assert status.failure
    assert status.failure.message == "no worker knew a task named 'add', version 0, for 0.0 days"
    assert [past.type for past in status.history] == ["UnknownTask"]
    stats = await line.stats()
    assert (stats.unclaimed, stats.dead, stats.totals.dead) == (0, 1, 1)
    await line.inspector.redrive(QUEUE, ["a"])
    [delivery] = await line.fetch()
    assert delivery.id == "a"
    await line.unclaim(delivery)


async def test_names_of_templates_are_bounded(line: Line) -> None:
    """A stranger's heartbeats cannot fill Redis: the templates of living workers and some others are kept."""
    await line.announce("first", {"add": 0})
    for number in range(60):
        await line.announce(f"t{number}", {}, worker="the same")
    assert await now(line.redis.hlen(line.keys.announced)) <= 51
    assert await now(line.redis.hexists(line.keys.announced, "first")), "its worker lives"


async def test_the_doctor_mends_what_is_out_of_step(line: Line) -> None:
    await set_aside(line, "a", "b", "c")
    k = line.keys
    await now(line.redis.hdel(k.unclaimed_as, "a"))
    await now(line.redis.zrem(k.unclaimed, "b"))
    await now(line.redis.zadd(k.unclaimed_by, {b"add\x1f0000000007\x1fc": 0}))
    found = {finding.trouble for finding in await line.examine(mend=True)}
    assert found == {"unclaimed out of step", "in no state", "stale unclaimed entry"}
    assert await line.examine() == []
    assert (await line.stats()).unclaimed == 1
    assert sorted(await line.order()) == ["a", "b"]


async def test_it_is_told(line: Line) -> None:
    await attend(line.redis, line.keys)
    await set_aside(line, "a")
    events = await line.inspector.latest_events(QUEUE)
    assert [event.what for event in events] == [What.ENQUEUED, What.STARTED, What.UNCLAIMED]


async def test_a_name_may_hold_anything(line: Line) -> None:
    for at, name in enumerate(("zwei Wörter", "with \x1f in it", "", "% %d", "a\nb")):
        await line.enqueue(f"t{at}")
        [delivery] = await line.fetch()
        await line.unclaim(delivery, task=name, version=10**30)
        assert await line.announce(f"new{at}", {name: 10**30 - 1}) in (0, 1), "beyond ten digits versions are alike"
        await line.announce(f"newer{at}", {name: 10**30})
        await line.fetch()
        assert (await line.stats()).unclaimed == 0, msgspec.json.encode(name)


POLICY = Policy(slots=10, backlog_per_replica=100, idle_after=20, stabilization=20)


class Cluster:
    """A queue that scales to zero: every second one decision, and workers of one template that know `names`."""

    def __init__(self, line: Line) -> None:
        self.line, self.replicas, self.starts, self.clock = line, 0, 0, 1000.0
        self.memory: Memory | None = None

    async def run(self, seconds: int, template: str, names: dict[str, int]) -> None:
        for _ in range(seconds):
            await self.line.pass_time(1)
            self.clock += 1
            demand = demand_of(await self.line.stats(), template)
            decision = decide(demand, POLICY, self.replicas, self.memory, self.clock)
            self.memory = decision.memory
            if self.replicas == 0 and decision.replicas > 0:
                self.starts += 1
                await self.line.announce(template, names, worker=f"w{self.starts}")
            elif decision.replicas == 0 and self.replicas > 0:
                await self.line.broker.forget_worker(f"w{self.starts}")
            self.replicas = decision.replicas
            if self.replicas:
                await self._work(template, names)

    async def _work(self, template: str, names: dict[str, int]) -> None:
        await self.line.beat(worker=f"w{self.starts}", template=template)
        for delivery in await self.line.fetch():
            name = decode(delivery.envelope).task
            await (self.line.settle(delivery, DONE) if name in names else self.line.unclaim(delivery, name, template=template))


async def test_a_mistyped_name_starts_a_worker_once_and_a_mended_deployment_picks_it_up(line: Line) -> None:
    """It used to start and stop one every 22 seconds without end: 31 in eleven minutes."""
    cluster = Cluster(line)
    await line.enqueue("mistyped")
    await cluster.run(660, "t1", {"subtract": 0})
    assert (cluster.starts, cluster.replicas) == (1, 0)
    await cluster.run(120, "t2", {"subtract": 1})
    assert (cluster.starts, cluster.replicas) == (2, 0), "another template may know it: once"
    await cluster.run(120, "t3", {"add": 0})
    assert (cluster.starts, cluster.replicas) == (3, 0)
    assert (await line.status("mistyped")).state is TaskState.SUCCEEDED


async def test_without_a_known_template_nothing_unclaimed_is_demand(line: Line) -> None:
    await set_aside(line, "a")
    assert demand_of(await line.stats()).waiting == 0
    assert demand_of(await line.stats(), "t1").waiting == 1


async def test_only_a_batch_with_an_unknown_task_names_the_keys_of_unclaimed_ones(line: Line) -> None:
    """Each key of a script costs each of its calls, and settling is what workers do most."""
    done, unknown = (Settlement(end.__class__.__name__, "f", end) for end in (DONE, Unclaim("add", 0, "old", 5.0)))
    plain, both = (settle_call(line.keys, batch, 60).by_hash().command for batch in ([done], [done, unknown]))
    mine = {line.keys.unclaimed, line.keys.unclaimed_as, line.keys.unclaimed_by, line.keys.announced, line.keys.templates}
    assert (mine & set(plain), mine & set(both)) == (set(), mine)
