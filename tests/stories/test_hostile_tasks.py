"""Hostile tasks: what a worker process survives, and how it ends where it cannot."""

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stoker import Stoker, TaskFailed
from stoker.rules.states import TaskState
from tests.stories.apps import vandal
from tests.stories.working import worker_process
from tests.waiting import until

FOUND_AGAIN = 20.0
"""Seconds within which a task must have run elsewhere, on a slow machine: the lease is one second."""


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Stoker]:
    """The application that the processes run, seen from outside."""
    vandal.app.redis_url = redis_url
    yield vandal.app
    await vandal.app.close()


async def pids(within: float = FOUND_AGAIN) -> set[int]:
    """Where all kinds of tasks run now."""
    handles = [await task.enqueue() for task in (vandal.where, vandal.where_in_a_thread, vandal.where_in_a_child)]
    return {await handle.result(timeout=within) for handle in handles}


@pytest.mark.parametrize("task", ["do", "do_in_a_thread"])
async def test_a_worker_lives_through_it(app: Stoker, redis_url: str, tmp_path: Path, task: str) -> None:
    """All of it, one after the other; then it works as before, and leaves as it is told."""
    deeds = ["eat memory", "recurse", "print megabytes", "leave threads", "move away", "fork"]
    deeds += ["raise what cannot be described", "raise what exits", "pools"]
    deeds += ["be deaf"] if task == "do" else []  # Python refuses that in a thread
    deeds += ["close the output"]  # the last one of which its log could tell
    with worker_process(redis_url, tmp_path, app="vandal:app") as worker:
        for deed in deeds:
            await (await app.tasks[task].options(retry=1).enqueue(deed)).result(timeout=FOUND_AGAIN)
            assert await pids() == {worker.process.pid}, deed
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    failed = {line["error"] for line in worker.said("task failed, will be retried")}
    assert failed == {
        "MemoryError: ",
        "RecursionError: maximum recursion depth exceeded",
        "SyntaxError: odd (menu.py)",
        "ExitsInStr: (its __str__ failed)",
    }
    assert (await app.client.inspector.stats(["default"]))[0].totals.lost == 0


async def test_what_ends_an_event_loop_does_not_end_the_worker(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    """The run fails and is named in the log; its neighbours, the probes and the connections live."""
    with worker_process(redis_url, tmp_path, app="vandal:app") as worker:
        for deed in ENDINGS:
            task = vandal.do if deed == "stop the loop" else vandal.do_and_wait
            neighbour = await vandal.wait.enqueue()
            await until(lambda at=neighbour: is_running(at))  # type: ignore[misc]
            culprit = await task.options(retry=1).enqueue(deed)
            assert await culprit.result(timeout=FOUND_AGAIN) == 2, deed
            assert await neighbour.result(timeout=FOUND_AGAIN) == (2 if deed == "cancel everything" else 1), deed
            assert await pids() == {worker.process.pid}, deed
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    failed = {line["error"].split(":")[0] for line in worker.said("task failed, will be retried")}
    assert failed == {"SystemExit", "KeyboardInterrupt", "RuntimeError", "CancelledError"}
    said = worker.said("an asyncio task that a task has started wants the process to exit: the worker goes on")
    assert [line["error"] for line in said] == ["SystemExit"] * 3 + ["KeyboardInterrupt"]
    assert all("vandal.py" in line["at"][-1] for line in said)
    assert (await app.client.inspector.stats(["default"]))[0].totals.lost == 0


ENDINGS = (
    "exit in a gathered coroutine",
    "exit in a task group",
    "exit in a task beside",
    "interrupt in a gathered coroutine",
    "cancel everything",
    "shut the executor down",
    "stop the loop",
)


async def test_a_coroutine_that_ignores_its_cancellation_does_not_keep_its_worker(
    app: Stoker, redis_url: str, tmp_path: Path
) -> None:
    """It is logged once that its timeout is over. After the drain timeout it is released, and the worker leaves without it."""
    with worker_process(redis_url, tmp_path, "--drain-timeout", "1s", app="vandal:app") as worker:
        handle = await vandal.cling.options(timeout=0.1).enqueue()
        await until(lambda: worker.said(IGNORED))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    assert [line["task_id"] for line in worker.said(IGNORED)] == [handle.id]
    [line] = worker.said("a task ignores its cancellation: released, leaving without it")
    assert line["task_id"] == handle.id
    assert (await handle.status()).state is TaskState.READY
    totals = (await app.client.inspector.stats(["default"]))[0].totals
    assert (totals.released, totals.lost) == (1, 0)


IGNORED = "a task ignores its timeout: it keeps its slot until it ends"


async def test_threads_that_tasks_leave_behind_do_not_keep_the_process(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    """Python would wait for them for ever, and nobody would take the tasks of a worker that has said goodbye."""
    with worker_process(redis_url, tmp_path, app="vandal:app") as worker:
        await (await vandal.do.enqueue("leave threads")).result(timeout=FOUND_AGAIN)
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    [line] = worker.said("exiting without waiting for threads that tasks have left behind")
    assert line["threads"] == ["living on"]


@pytest.mark.parametrize(
    ("task", "deed", "words"),
    [
        pytest.param("do", "exit", "", id="exit"),
        pytest.param("do", "segfault", "Fatal Python error: Segmentation fault", id="a segmentation fault"),
        pytest.param("do", "close everything", "Bad file descriptor|Aborted", id="all descriptors closed"),
        pytest.param("do_in_a_thread", "close everything", "Bad file descriptor|Aborted", id="all descriptors closed in a thread"),
    ],
)
async def test_a_worker_that_is_brought_down_falls_at_once(
    app: Stoker, redis_url: str, tmp_path: Path, task: str, deed: str, words: str
) -> None:
    """It holds no leases as a ghost, and says why it fell; what it held runs elsewhere."""
    handle = await app.tasks[task].enqueue(deed)
    neighbours = [await vandal.where.enqueue() for _ in range(5)]
    with worker_process(redis_url, tmp_path, app="vandal:app", name="first") as first:
        assert await first.exit_code() != 0
    assert re.search(words, (tmp_path / "first.log").read_text())
    with worker_process(redis_url, tmp_path, app="vandal:app", name="second") as second:
        assert await handle.result(timeout=FOUND_AGAIN) == 2
        for neighbour in neighbours:
            await neighbour.result(timeout=FOUND_AGAIN)
        assert await pids() == {second.process.pid}


async def test_a_fault_names_the_line_of_the_task(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    await vandal.do.enqueue("segfault")
    with worker_process(redis_url, tmp_path, app="vandal:app") as worker:
        assert await worker.exit_code() == -signal.SIGSEGV
    assert "vandal.py" in (tmp_path / "worker.log").read_text()


async def test_a_task_that_brings_every_worker_down_is_buried_and_no_other(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    culprits = [await vandal.do_always.enqueue(deed) for deed in ("segfault", "close everything")]
    neighbours = [await vandal.where.enqueue() for _ in range(20)]
    with worker_process(redis_url, tmp_path, "--processes", "2", "--max-lost", "2", app="vandal:app") as group:
        for culprit in culprits:
            with pytest.raises(TaskFailed, match="lost"):
                await culprit.result(timeout=60)
            assert (await culprit.status()).losses == 2
        for neighbour in neighbours:
            await neighbour.result(timeout=FOUND_AGAIN)
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0


async def test_in_a_child_it_is_the_childs_own_affair(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    with worker_process(redis_url, tmp_path, "--task-processes", "1", "--max-retries", "0", app="vandal:app") as worker:
        for deed in ("print megabytes", "leave threads", "move away", "be deaf", "pools"):
            await (await vandal.do_in_a_child.enqueue(deed)).result(timeout=FOUND_AGAIN)
            assert await pids() == {worker.process.pid}, deed
        for deed, words in FATAL.items():
            with pytest.raises(TaskFailed, match=words):
                await (await vandal.do_in_a_child.enqueue(deed)).result(timeout=FOUND_AGAIN)
            assert await pids() == {worker.process.pid}, deed
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    assert "vandal.py" in (tmp_path / "worker.log").read_text(), "where it crashed"


FATAL = {
    "eat memory": "MemoryError",
    "recurse": "RecursionError",
    "segfault": "SIGSEGV",
    "exit": "exit code 1",
    "close the output": "BrokenPipeError",
}


async def test_what_a_stuck_worker_held_runs_elsewhere_and_its_late_word_does_not_count(
    app: Stoker, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit there is no heartbeat: the leases end while the worker is still there. Its log says where it is stuck."""
    monkeypatch.setenv("STUCK_AFTER", "1.0")
    handle = await vandal.do.enqueue("block for a while")
    with worker_process(redis_url, tmp_path, app="vandal:app", name="stuck") as stuck:
        await until(lambda: stuck.said("the event loop is stuck: heartbeats stop, its tasks go to other workers"))
        with worker_process(redis_url, tmp_path, app="vandal:app", name="awake"):
            assert await handle.result(timeout=FOUND_AGAIN) == 2
            await until(lambda: stuck.said("settlements refused: the leases were lost"))
        await until(lambda: stuck.said("the event loop runs again"))
        assert await pids() == {stuck.process.pid}, "it works again"
    [line] = stuck.said("the event loop is stuck: heartbeats stop, its tasks go to other workers")
    assert any("vandal.py" in frame for frame in line["at"])
    counted = (await app.client.inspector.stats(["default"]))[0]
    assert (counted.totals.lost, counted.totals.stale_settles) == (1, 1)
    assert await handle.result(timeout=1) == 2


@pytest.mark.parametrize("task", ["do", "do_in_a_thread"])
async def test_a_task_that_holds_the_interpreter_lock_is_named(app: Stoker, redis_url: str, tmp_path: Path, task: str) -> None:
    """No thread can say so meanwhile, and nothing else shows whose fault the lost leases of its neighbours are."""
    with worker_process(redis_url, tmp_path, "--lease", "6s", app="vandal:app") as worker:
        await until(lambda: worker.said("worker started"))
        await (await app.tasks[task].enqueue("hold the interpreter lock")).result(timeout=FOUND_AGAIN)
        held = "the interpreter lock was held: no heartbeat, probe or other task of this process ran"
        [line] = await until(lambda: worker.said(held))
    assert line["tasks"] == [task]
    assert re.search(r"vandal\.py:\d+ <lambda>", line["at"][0])
    assert 3 < line["seconds"] < 30


async def test_signalled_twice_a_blocked_worker_ends_at_once(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    """The loop hears of no signal then; a person at a terminal is told what is going on."""
    handle = await vandal.do.enqueue("block")
    with worker_process(redis_url, tmp_path, app="vandal:app", name="blocked") as worker:
        await until(lambda: is_running(handle))
        await until(lambda: worker.said("a task blocks the event loop: all other tasks of this process wait"), 15)
        worker.signal(signal.SIGINT)
        await until(lambda: worker.said(WARNED))
        assert worker.process.poll() is None
        worker.signal(signal.SIGINT)
        assert await worker.exit_code() == 1
    with worker_process(redis_url, tmp_path, app="vandal:app", name="other"):
        assert await handle.result(timeout=FOUND_AGAIN) == 2


WARNED = "a task blocks the event loop: draining when it returns. Press Ctrl-C again to exit now."


async def is_running(handle: Any) -> bool:
    return (await handle.status()).state is TaskState.RUNNING


async def test_a_worker_restarts_in_its_first_folder_wherever_a_task_has_gone(
    app: Stoker, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do its children: their application may lie in the working directory."""
    (tmp_path / "roamer.py").write_text("from vandal import app\nopen('roamer.py').close()\n")
    monkeypatch.chdir(tmp_path)
    with worker_process(redis_url, tmp_path, "--max-memory", "300MiB", "--lease", "20s", app="roamer:app") as worker:
        assert await (await vandal.do.enqueue("move away")).result(timeout=FOUND_AGAIN) == "/"
        assert await pids() == {worker.process.pid}
        await (await vandal.do.enqueue("hoard")).result(timeout=FOUND_AGAIN)
        await until(lambda: len(worker.said("worker started")) == 2, FOUND_AGAIN)
        assert await pids() == {worker.process.pid}
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
