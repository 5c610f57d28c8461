"""What hangs is aborted and tried again; what cannot be aborted fails the operator's liveness, in a known time."""

import asyncio
from typing import Any

import pytest

from stoker_operator.queues import autoscaler as rounds
from stoker_operator.queues.autoscaler import Autoscaler
from stoker_operator.reconcile import reconciler as passes
from stoker_operator.reconcile.reconciler import Reconciler
from stoker_operator.state.ref import Ref
from stoker_operator.work_queue import WorkQueue
from tests.operator.operating import until

EMAILS, IMAGES = Ref("shop", "emails"), Ref("shop", "images")


async def ended(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Passes(Reconciler):
    """Its passes over `emails` hang."""

    def __init__(self, work: WorkQueue) -> None:
        self._work = work
        self.begun: list[Ref] = []

    async def reconcile(self, ref: Ref) -> None:
        self.begun.append(ref)
        if ref == EMAILS:
            await asyncio.Event().wait()


async def test_a_pass_that_hangs_is_aborted_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "PASS_SECONDS", 0.02)
    monkeypatch.setattr("stoker_operator.work_queue.FIRST_PAUSE", 0.01)
    work = WorkQueue()
    reconciler = Passes(work)
    running = asyncio.create_task(reconciler.run())
    work.add(EMAILS)
    work.add(IMAGES)

    async def tried_again() -> bool:
        return reconciler.begun.count(EMAILS) >= 2 and IMAGES in reconciler.begun

    await until(tried_again)
    await ended(running)


async def test_the_work_queue_says_for_how_long_nothing_moved() -> None:
    now = 100.0
    work = WorkQueue(lambda: now)
    now += 1000
    assert (work.waited(), work.longest()) == (0.0, 0.0)
    work.add(EMAILS)
    now += 5
    work.add(IMAGES)
    assert work.waited() == 5.0, "since the first came"
    async with work.take():
        now += 7
        assert (work.waited(), work.longest()) == (7.0, 7.0)
        async with work.take():
            now += 1
            assert (work.waited(), work.longest()) == (0.0, 8.0)
    assert work.longest() == 0.0


class Hanging:
    """A pool whose Redis never answers, and does not even notice a cancellation if `deaf`."""

    def __init__(self, *, deaf: bool) -> None:
        self.reads = 0
        self.deaf = deaf
        self.released = asyncio.Event()

    async def probe(self, *_: Any) -> Any:
        self.reads += 1
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            if self.deaf:
                await self.released.wait()
            raise

    async def keep_only(self, _: Any) -> None:
        return

    async def close(self) -> None:
        return


class Store:
    def by_redis(self) -> Any:
        return {"redis://r": []}

    def all(self) -> Any:
        return []


def scaling(pool: Hanging) -> Autoscaler:
    parts: Any = (None, Store(), WorkQueue(), pool, None)
    return Autoscaler(*parts)


async def test_a_round_that_hangs_is_aborted_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND_SECONDS", 0.02)
    pool = Hanging(deaf=False)
    running = asyncio.create_task(scaling(pool).run(0.005, lambda: None))

    async def tried_again() -> bool:
        return pool.reads >= 3

    await until(tried_again)
    await ended(running)


async def test_a_round_that_cannot_be_aborted_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND_SECONDS", 0.02)
    pool = Hanging(deaf=True)
    autoscaler = scaling(pool)
    running = asyncio.create_task(autoscaler.run(0.005, lambda: None))

    async def known() -> bool:
        return autoscaler.longest() > 5 * 0.02

    await until(known)
    assert pool.reads == 1
    pool.released.set()
    await ended(running)
