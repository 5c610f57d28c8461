"""Any history, with concurrency keys and an inbox that others write to, which the proof leaves out.

Every task is in exactly one place, and only the last delivery's word counts.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from itertools import product
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from stoker.queue.inbox import Inbox
from stoker.queue.records import Delivery, Holds
from stoker.rules.admission import Admission
from stoker.rules.concurrency import Limit
from stoker.rules.losses import is_suspect
from stoker.rules.settle import Bury, Cancel, Release, Retry, Snooze, Transition
from stoker.rules.unique import Claim, Until
from tests.engine.line import DONE, FAILURE, LEASE, PLACES, Line, message, now, open_line
from tests.redis_servers import Valkey

T = TypeVar("T")
ENDS: list[Transition] = [DONE, Retry(0, FAILURE), Retry(7, FAILURE), Snooze(5), Release(), Bury(FAILURE), Cancel()]
PRIORITIES = (-100, 0, 3)
MAX_LOST = 4  # so that suspects run beside others, until their last life
ALIVE = {"ready", "suspects", "scheduled", "leases"}
FOR_EVER = 1e9


LINES = ("ready", "suspects")
KEYED = Limit("a customer", 2)


class AnyHistory(RuleBasedStateMachine):
    """What clients, workers, the reaper and a person may do, and a model that says where each task must be."""

    server: ClassVar[Valkey]

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.server.flush()
        self.stack = AsyncExitStack()
        self.line: Line = self.run(self.stack.enter_async_context(open_line(self.server.url, max_lost=MAX_LOST)))
        self.number = 0
        self.places: dict[str, str] = {}
        self.priority: dict[str, int] = {}
        self.losses: dict[str, int] = {}
        self.cancel_asked: set[str] = set()
        self.untouched: list[str] = []  # ready and never handed out: their order is known
        self.claims: dict[str, str] = {}  # kind -> who holds it
        self.until_started: set[str] = set()
        self.keyed: set[str] = set()
        self.held: list[Delivery] = []
        self.stale: list[Delivery] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.run(self.stack.aclose())
            self.runner.close()

    @rule(
        count=st.integers(1, 4),
        priority=st.sampled_from(PRIORITIES),
        delay=st.sampled_from([0.0, 0.0, 10.0]),
        limit=st.sampled_from([None, None, KEYED]),
    )
    def enqueue(self, count: int, priority: int, delay: float, limit: Limit | None) -> None:
        ids = [f"{(self.number + offset) * 37 % 1000:03}" for offset in range(count)]
        self.number += count
        new = [task_id for task_id in ids if task_id not in self.places]
        self.run(self.line.broker.enqueue([Admission(message(task_id, priority), delay, limit=limit) for task_id in ids]))
        for task_id in new:
            self.places[task_id] = "scheduled" if delay else "ready"
            self.priority[task_id] = priority
            if limit:
                self.keyed.add(task_id)
            if not delay:
                self.untouched.append(task_id)

    @rule(kind=st.sampled_from(["a", "b"]), until=st.sampled_from(["started", "done"]), delay=st.sampled_from([0.0, 10.0]))
    def enqueue_the_only_one_of_its_kind(self, kind: str, until: Until, delay: float) -> None:
        task_id, holder = f"{self.number * 37 % 1000:03}", self.claims.get(kind)
        self.number += 1
        [receipt] = self.run(self.line.broker.enqueue([Admission(message(task_id), delay, claim=Claim(kind, until, FOR_EVER))]))
        assert (receipt.id, receipt.duplicate) == (holder or task_id, holder is not None)
        if holder:
            return
        self.claims[kind] = task_id
        self.places[task_id], self.priority[task_id] = "scheduled" if delay else "ready", 0
        if until == "started":
            self.until_started.add(task_id)
        if not delay:
            self.untouched.append(task_id)

    @rule(data=st.data(), priority=st.sampled_from(PRIORITIES), delay=st.sampled_from(["0", "10"]))
    def another_program_leaves_entries(self, data: st.DataObject, priority: int, delay: str) -> None:
        """One new, one that is there already, one under a taken id, one malformed; two workers take them in at once."""
        new = f"{self.number * 37 % 1000:03}"
        self.number += 1
        known = data.draw(st.sampled_from(sorted(self.places))) if self.places else new
        fields = {"task": "add", "priority": str(priority), "delay": delay}
        taken = {**fields, "id": known, "payload": '{"other": 1}'}
        before = self.run(self.line.stats()).totals.dead
        for entry in ({**fields, "id": new}, {**fields, "id": known}, taken, {"id": "no task"}):
            self.run(now(self.line.redis.xadd(self.line.keys.inbox, entry)))
        self.run(self.take_in_twice())
        self.places[new], self.priority[new] = "ready" if delay == "0" else "scheduled", priority
        if delay == "0":
            self.untouched.append(new)
        assert self.run(self.line.stats()).totals.dead == before + 2
        assert self.run(now(self.line.redis.xlen(self.line.keys.inbox))) == 0
        for task_id in self.members("dead") - set(self.places):
            assert task_id.startswith("inbox-")
            assert self.run(self.line.inspector.delete("emails", [task_id])) == [task_id]

    async def take_in_twice(self) -> None:
        inbox = Inbox(self.line.redis, self.line.keys)
        await asyncio.gather(inbox.take_in(), inbox.take_in())

    @rule(room=st.integers(1, 4), worker=st.sampled_from(["one", "two"]))
    def fetch(self, room: int, worker: str) -> None:
        mine = [delivery for delivery in self.held if f":{worker}:" in delivery.fence]
        if any(delivery.last_life for delivery in mine):
            return
        holds = any(is_suspect(delivery.losses) for delivery in mine)
        turn = self.run(self.line.look(room, worker, Holds.SUSPECT if holds else Holds.TASKS if mine else Holds.NOTHING))
        taken = turn.deliveries
        assert len(taken) <= room
        self.observe_promotions({delivery.id for delivery in taken})
        suspects = [delivery.id for delivery in taken if is_suspect(delivery.losses)]
        assert len(suspects) <= (0 if holds else 1), "a worker never holds two suspects"
        alone = any(delivery.last_life for delivery in taken)
        assert not alone or (len(taken) == 1 and not mine), "a task on its last life has its worker to itself"
        eligible = "suspects" in self.places.values() and not holds
        priorities = [self.priority[delivery.id] for delivery in taken]
        assert priorities == sorted(priorities, reverse=True)
        left = [self.priority[task_id] for task_id, place in self.places.items() if place == "ready"]
        for delivery in taken:
            assert self.places[delivery.id] == self.line_of(delivery.id)
            self.places[delivery.id] = "leases"
            if delivery.id in self.until_started:
                self.give_up_claim(delivery.id)
        room_for_keyed = sum(self.places[task_id] == "leases" for task_id in self.keyed) < KEYED.most
        may_run = [
            task_id for task_id, place in self.places.items() if place == "ready" and (room_for_keyed or task_id not in self.keyed)
        ]
        ready = [self.priority[task_id] for task_id in may_run]
        on_last_life = any(self.losses.get(task_id, 0) >= MAX_LOST - 1 for task_id in self.places)
        if not self.keyed and not on_last_life:
            assert len(taken) == min(room, len(left) + eligible)
        assert len(taken) == room or not may_run or alone or turn.clear
        if taken and ready and not alone:
            assert max(ready) <= priorities[-1], "nobody more urgent was left behind"
        for priority, keyed in product(PRIORITIES, (True, False)):
            line = [
                task_id for task_id in self.untouched if self.priority[task_id] == priority and (task_id in self.keyed) == keyed
            ]
            fresh = [delivery.id for delivery in taken if delivery.id in line]
            assert fresh == line[: len(fresh)]
        self.untouched = [task_id for task_id in self.untouched if self.places[task_id] == "ready"]
        self.held += taken

    @precondition(lambda self: self.held)
    @rule(data=st.data(), end=st.sampled_from(ENDS))
    def settle(self, data: st.DataObject, end: Transition) -> None:
        delivery = data.draw(st.sampled_from(self.held))
        assert self.run(self.line.settle(delivery, end))
        self.held.remove(delivery)
        self.stale.append(delivery)
        line = self.line_of(delivery.id)
        self.places[delivery.id] = {Bury: "dead", Snooze: "scheduled", Release: line, Cancel: "cancelled"}.get(type(end), "done")
        if isinstance(end, Retry):
            self.places[delivery.id] = "scheduled" if end.delay else line
        if delivery.id in self.cancel_asked and end is not DONE and not isinstance(end, Bury):
            self.places[delivery.id] = "cancelled"
        self.cancel_asked.discard(delivery.id)

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), end=st.sampled_from(ENDS))
    def settle_too_late(self, data: st.DataObject, end: Transition) -> None:
        assert not self.run(self.line.settle(data.draw(st.sampled_from(self.stale)), end))

    @precondition(lambda self: self.overtaken())
    @rule(data=st.data(), end=st.sampled_from(ENDS))
    def settle_what_another_now_runs(self, data: st.DataObject, end: Transition) -> None:
        assert not self.run(self.line.settle(data.draw(st.sampled_from(self.overtaken())), end))

    def overtaken(self) -> list[Delivery]:
        running = {delivery.id for delivery in self.held}
        return [delivery for delivery in self.stale if delivery.id in running]

    @rule(seconds=st.sampled_from([1, 6, 11]))
    def time_passes_and_workers_beat(self, seconds: int) -> None:
        self.run(self.line.pass_time(seconds))
        answer = self.run(self.line.beat(*self.held))
        assert answer.lost == []
        assert answer.cancelled == [delivery.fence for delivery in self.held if delivery.id in self.cancel_asked]

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def beat_for_what_was_lost(self, data: st.DataObject) -> None:
        lost = data.draw(st.sampled_from(self.stale))
        assert self.run(self.line.beat(lost, *self.held)).lost == [lost.fence]

    @rule(data=st.data())
    def some_workers_crash(self, data: st.DataObject) -> None:
        """Whoever is not kept alive by a heartbeat loses its lease; the reaper comes."""
        survivors = [delivery for delivery in self.held if data.draw(st.booleans())]
        for _ in range(2):
            self.run(self.line.pass_time(LEASE * 0.6))
            self.run(self.line.beat(*survivors))
        crashed = [delivery for delivery in self.held if delivery not in survivors]
        reaped = self.run(self.line.broker.reap())
        cancelled = {delivery.id for delivery in crashed if delivery.id in self.cancel_asked}
        buried = {delivery.id for delivery in crashed if delivery.losses + 1 >= MAX_LOST} - cancelled
        assert (reaped.given_back, reaped.buried) == (len(crashed) - len(buried) - len(cancelled), len(buried))
        for delivery in crashed:
            self.losses[delivery.id] = delivery.losses + 1
            self.places[delivery.id] = "dead" if delivery.id in buried else self.line_of(delivery.id)
        self.places |= dict.fromkeys(cancelled, "cancelled")
        self.cancel_asked -= cancelled
        self.held = survivors
        self.stale += crashed

    @rule()
    def promote(self) -> None:
        self.run(self.line.broker.promote())
        self.observe_promotions(set())

    @precondition(lambda self: "dead" in self.places.values())
    @rule(data=st.data(), again=st.booleans())
    def a_person_looks_after_the_dead(self, data: st.DataObject, again: bool) -> None:
        task_id = data.draw(st.sampled_from(sorted(task for task, place in self.places.items() if place == "dead")))
        verb = self.line.inspector.redrive if again else self.line.inspector.delete
        assert self.run(verb("emails", [task_id])) == [task_id]
        if again:
            self.places[task_id] = "ready"
            self.losses.pop(task_id, None)
        else:
            del self.places[task_id]
            self.keyed.discard(task_id)

    @precondition(lambda self: self.places)
    @rule(data=st.data())
    def a_person_cancels(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.places)))
        [answer] = self.run(self.line.inspector.cancel("emails", [task_id]))
        match self.places[task_id]:
            case "done" | "dead":
                assert answer == "over"
            case "leases":
                assert answer == "requested"
                self.cancel_asked.add(task_id)
            case _:
                assert answer == "cancelled"
                self.places[task_id] = "cancelled"
                self.untouched = [other for other in self.untouched if other != task_id]

    @rule()
    def nothing_is_damaged(self) -> None:
        assert self.run(self.line.examine()) == []

    @rule()
    def sweep(self) -> None:
        assert self.run(self.line.broker.sweep()) == (0, 0), "nothing is old enough yet"

    @rule()
    def scripts_are_forgotten(self) -> None:
        self.run(self.line.redis.script_flush())

    @invariant()
    def every_task_is_where_it_must_be(self) -> None:
        if not hasattr(self, "line"):
            return
        for task_id in list(self.claims.values()):
            if self.places.get(task_id) not in ALIVE:
                self.give_up_claim(task_id)
        assert self.holders() == set(self.claims.values())
        self.run(self.line.check())
        parked = {place: {task_id for task_id in self.members("parked") if self.line_of(task_id) == place} for place in LINES}
        for place in set(PLACES) - {"parked"}:
            here = {task_id for task_id, at in self.places.items() if at == place}
            assert self.members(place) | parked.get(place, set()) == here, place

    def give_up_claim(self, task_id: str) -> None:
        self.claims = {kind: holder for kind, holder in self.claims.items() if holder != task_id}

    def holders(self) -> set[str]:
        return {task_id.decode() for task_id in self.run(now(self.line.redis.hkeys(self.line.keys.claims)))}

    def members(self, place: str) -> set[str]:
        found = self.run(now(self.line.redis.zrange(getattr(self.line.keys, place), 0, -1)))
        return {task_id.decode() for task_id in found}

    def observe_promotions(self, fetched: set[str]) -> None:
        """Scheduled tasks become ready when they are due; when that was is the server's to say."""
        for task_id in self.members("ready") | self.members("suspects") | self.members("parked") | fetched:
            if self.places[task_id] == "scheduled":
                self.places[task_id] = self.line_of(task_id)

    def line_of(self, task_id: str) -> str:
        return "suspects" if is_suspect(self.losses.get(task_id, 0)) else "ready"


@pytest.mark.timeout(110)
def test_any_history_with_concurrency_keys_and_an_inbox(shared_valkey: Valkey) -> None:
    AnyHistory.server = shared_valkey
    run_state_machine_as_test(
        AnyHistory,
        settings=settings(
            max_examples=50,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=[Phase.reuse, Phase.generate],  # a history this short is read as it is; making it shorter takes minutes
            print_blob=True,
        ),
    )
