"""Progress and log lines of running tasks: kept for the delivery that holds the lease, bounded, each line once."""

import msgspec

from stoker.queue.progress import MOST_BYTES, MOST_LINES, Note
from stoker.queue.records import Delivery
from stoker.rules.history import LogLine, Progress
from stoker.rules.settle import Retry
from stoker.rules.states import TaskState
from tests.engine.line import DONE, FAILURE, LEASE, QUEUE, Line


def note(delivery: Delivery, *texts: str, first: int = 1, done: float | None = None) -> Note:
    lines = [msgspec.json.encode(LogLine(1, delivery.attempt, "info", text)) for text in texts]
    progress = b"" if done is None else msgspec.json.encode(Progress(done, 10, "pages", 1))
    return Note(delivery.id, delivery.fence, progress, first, lines)


async def logged(line: Line, task_id: str = "a") -> list[str]:
    return [each.text for each in (await line.status(task_id)).log]


async def test_progress_is_that_of_the_present_run(line: Line) -> None:
    await line.enqueue("a")
    [delivery] = await line.fetch()
    assert await line.broker.write_notes([note(delivery, done=3)]) == [True]
    assert await line.broker.write_notes([note(delivery, "a line", first=1)]) == [True]
    assert (await line.status("a")).progress == Progress(3, 10, "pages", 1)
    await line.settle(delivery, Retry(0, FAILURE))
    assert (await line.status("a")).progress is None
    await line.fetch()
    assert (await line.status("a")).progress is None


async def test_what_a_lost_run_said_says_nothing_of_the_next(line: Line) -> None:
    await line.enqueue("a")
    [lost] = await line.fetch()
    await line.broker.write_notes([note(lost, "before", done=9)])
    await line.pass_time(LEASE + 1)
    await line.broker.reap()
    [again] = await line.fetch()
    assert (await line.status("a")).progress is None
    assert await line.broker.write_notes([note(lost, "too late", first=2, done=10), note(again, "after", done=1)]) == [False, True]
    assert (await line.status("a")).progress == Progress(1, 10, "pages", 1)
    assert await logged(line) == ["before", "after"]
    assert (await line.stats()).totals.stale_settles == 1


async def test_a_line_that_comes_twice_is_kept_once(line: Line) -> None:
    """The answer to the first call was lost, so its lines come again with the next."""
    await line.enqueue("a")
    [delivery] = await line.fetch()
    await line.broker.write_notes([note(delivery, "one", "two")])
    await line.broker.write_notes([note(delivery, "one", "two", "three")])
    await line.broker.write_notes([note(delivery, "five", first=5)])
    assert await logged(line) == ["one", "two", "three", "five"]


async def test_the_last_lines_are_kept_as_long_as_the_task(line: Line) -> None:
    await line.enqueue("a", "big")
    small, big = await line.fetch()
    for start in range(0, 120, 40):
        await line.broker.write_notes([note(small, *(f"line {n}" for n in range(start, start + 40)), first=start + 1)])
    await line.broker.write_notes([note(big, *("x" * 1000 for _ in range(20)))])
    assert await logged(line) == [f"line {n}" for n in range(120 - MOST_LINES, 120)]
    assert 5 <= len(await logged(line, "big")) <= MOST_BYTES // 1000
    await line.settle(small, DONE)
    assert len(await logged(line)) == MOST_LINES
    page = await line.inspector.tasks(QUEUE, TaskState.SUCCEEDED)
    assert page.tasks[0].log == [], "a list of tasks is no place for logs"
    async for _ in line.inspector.purge(QUEUE, TaskState.SUCCEEDED):
        pass
    assert not await line.redis.hexists(line.keys.logs, "a")  # type: ignore[misc]
