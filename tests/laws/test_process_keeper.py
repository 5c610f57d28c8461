"""When processes are started, restarted and drained: a crash costs a pause that grows, a drain costs none."""

import sys
from pathlib import Path
from typing import Any

from stoker.local.fleet import trouble_of
from stoker.worker.system.managed_process import KeepPolicy, ManagedProcess, ProcessKeeper

CRASH_WITHIN = 10.0


class FakeProcess:
    """Runs until the test ends it."""

    def __init__(self, name: str, started: float) -> None:
        self.name = name
        self.started = started
        self.running = True
        self.draining = False
        self.exit_code: int | None = None

    def end(self, exit_code: int) -> None:
        self.running, self.exit_code = False, exit_code

    def log_tail(self) -> str:
        return "no such module"

    def drain(self, **_: Any) -> None:
        self.draining = True

    def abort(self) -> None:
        self.running = False


class Keeping:
    """A keeper at a time that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.started: list[FakeProcess] = []
        self.keeper = ProcessKeeper(self._start, KeepPolicy(kill_after=30.0, crash_within=CRASH_WITHIN))  # type: ignore[arg-type]

    async def _start(self) -> FakeProcess:
        self.started.append(FakeProcess(f"p{len(self.started)}", self.now))
        return self.started[-1]

    async def scale(self, wanted: int, after: float = 0.0) -> list[str]:
        """The names of those that work then."""
        self.now += after
        await self.keeper.scale(wanted, self.now)
        return [each.name for each in self.keeper.working]


async def test_the_newest_drain_first_and_are_not_replaced() -> None:
    keeping = Keeping()
    assert await keeping.scale(3) == ["p0", "p1", "p2"]
    assert await keeping.scale(1) == ["p0"]
    assert keeping.keeper.draining == 2
    keeping.started[1].running = keeping.started[2].running = False
    assert await keeping.scale(1) == ["p0"]
    assert (keeping.keeper.draining, keeping.keeper.crashes) == (0, 0)


async def test_after_a_crash_the_next_waits_and_after_each_further_one_longer() -> None:
    keeping = Keeping()
    await keeping.scale(1)
    for pause in (1.0, 2.0, 4.0):
        keeping.started[-1].running = False
        assert await keeping.scale(1) == []
        assert await keeping.scale(1, after=pause - 0.1) == []
        assert await keeping.scale(1, after=0.2) == [keeping.started[-1].name]
    assert keeping.keeper.crashed is keeping.started[2]


async def test_one_that_has_worked_for_a_while_is_replaced_at_once_and_what_was_is_forgotten() -> None:
    keeping = Keeping()
    await keeping.scale(1)
    keeping.started[-1].running = False
    await keeping.scale(1)
    await keeping.scale(1, after=1.0)
    await keeping.scale(1, after=CRASH_WITHIN)
    assert (keeping.keeper.crashes, keeping.keeper.crashed) == (0, None)
    keeping.started[-1].running = False
    assert await keeping.scale(1) == ["p2"]


async def test_a_killed_process_is_reported_until_another_has_taken_its_place() -> None:
    keeping = Keeping()
    await keeping.scale(2)
    keeping.started[0].end(-9)
    await keeping.scale(2)
    assert trouble_of(keeping.keeper, 2) == "p0 was killed by signal 9; another takes its place"
    assert await keeping.scale(2, after=1.5) == ["p1", "p2"]
    assert trouble_of(keeping.keeper, 2) == ""


async def test_a_process_that_cannot_work_is_reported_while_others_are_tried() -> None:
    keeping = Keeping()
    await keeping.scale(1)
    keeping.started[0].end(1)
    for after in (0.0, 1.5):
        await keeping.scale(1, after)
        assert trouble_of(keeping.keeper, 1) == "p0 ended with exit code 1: no such module"
    await keeping.scale(0)
    assert trouble_of(keeping.keeper, 0) == ""


async def test_only_those_that_drain_are_aborted() -> None:
    keeping = Keeping()
    await keeping.scale(2)
    await keeping.scale(1)
    keeping.keeper.abort()
    assert [each.running for each in keeping.started] == [True, False]


async def test_the_log_of_a_process_is_what_it_wrote_and_not_those_before_it(tmp_path: Path) -> None:
    log = tmp_path / "worker-1.log"
    for text in ("mended long ago", "new"):
        process = await ManagedProcess.start("worker-1", [sys.executable, "-c", f"print({text!r})"], log=log)
        await process.ended()
        assert process.log_tail() == text
