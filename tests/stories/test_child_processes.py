"""Heavy work in child processes: killed at its timeout, alone in its death, and never an orphan."""

import io
import json
import logging
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec.structs import replace

from stoker import Context, Depends, Invalid, Stoker, TaskFailed
from stoker import State as Given
from stoker.app.app import application_of
from stoker.app.middleware import EnqueueNext, RunNext
from stoker.errors import NotFound
from stoker.queue.records import Receipt
from stoker.rules.call import TaskCall
from stoker.rules.message import check_payload
from stoker.rules.retry import Jitter, Retry
from stoker.rules.states import TaskState
from stoker.settings import ChildLimits
from stoker.telemetry.logs import JsonFormatter
from tests.stories.apps import forge
from tests.stories.observing import living, processes
from tests.stories.working import worker_process, working
from tests.waiting import until

ONCE = Retry(max_retries=0)
START = 20.0
"""Seconds within which a child is up on a slow machine."""


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Stoker]:
    """The forge, on an empty server."""
    forge.app.redis_url = redis_url
    yield forge.app
    await forge.app.close()


def forging(**settings: Any) -> Any:
    """A worker that knows where its children find the forge."""
    return working(forge.app, app="tests.stories.apps.forge:app", concurrency=4, **settings)


def children_of(pid: int) -> set[int]:
    return {child for child, parent, command in processes() if parent == pid and "stoker.worker.children.child" in command}


async def test_it_runs_in_a_child_of_the_worker_which_serves_again(app: Stoker) -> None:
    async with forging():
        first = await (await forge.where.enqueue()).result(timeout=START)
        second = await (await forge.where.enqueue()).result(timeout=START)
        light = await (await forge.chat.enqueue()).result(timeout=START)
    assert first == second, "one after the other needs one child"
    assert first[1] == light == os.getpid()
    await until(lambda: not living({first[0]}))


async def test_as_many_run_at_once_as_there_are_slots_and_the_loop_stays_free(app: Stoker) -> None:
    async with forging():
        heavy = [await forge.hammer.enqueue(0.5) for _ in range(3)]
        await until(lambda: len(children_of(os.getpid())) == 3, START)
        assert await (await forge.chat.enqueue()).result(timeout=2) == os.getpid()
        assert [await handle.result(timeout=START) for handle in heavy] == [1, 1, 1]


async def test_fewer_children_than_slots_take_turns(app: Stoker) -> None:
    async with forging(children=ChildLimits(count=1)):
        handles = [await forge.where.enqueue() for _ in range(4)]
        assert len({(await handle.result(timeout=START))[0] for handle in handles}) == 1


async def test_at_its_timeout_it_is_killed_and_its_neighbours_go_on(app: Stoker) -> None:
    """Also where it ignores every signal and holds the interpreter's lock."""
    async with forging(retry=ONCE):
        neighbour = await forge.hammer.enqueue(2.0)
        stuck = await forge.hammer_for_ever.enqueue()
        with pytest.raises(TaskFailed, match=r"TaskTimeout: did not end within 0\.5 s"):
            await stuck.result(timeout=START)
        assert await neighbour.result(timeout=START) == 1
        assert (await (await forge.where.enqueue()).result(timeout=START))[1] == os.getpid(), "the pool has survived"


async def test_what_it_started_dies_with_it(app: Stoker, caplog: pytest.LogCaptureFixture) -> None:
    async with forging(retry=ONCE):
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            await (await forge.hire.enqueue()).result(timeout=START)
        [said] = [record for record in caplog.records if record.message == "hired"]
        await until(lambda: not living({said.program}))


async def test_cancelling_it_kills_its_child(app: Stoker) -> None:
    async with forging():
        handle = await forge.hammer.enqueue(3600)
        [child] = await until(lambda: children_of(os.getpid()), START)
        await until(lambda: is_running(handle))
        await handle.cancel()
        await until(lambda: not living({child}))
        await until(lambda: is_cancelled(handle))


async def is_running(handle: Any) -> bool:
    return (await handle.status()).state is TaskState.RUNNING


async def is_cancelled(handle: Any) -> bool:
    return (await handle.status()).state is TaskState.CANCELLED


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("an exception", "LookupError: no such mould"),
        ("Dead", "Dead: cracked for good"),
        ("sys.exit", "SystemExit: 3"),
        ("StopIteration", "RuntimeError: the task raised StopIteration"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("os._exit", "ProcessDied: the task's process ended itself with exit code 7"),
        ("os._exit in a thread", "ProcessDied: the task's process ended itself with exit code 8"),
        ("a segmentation fault", "ProcessDied: the task's process was killed by SIGSEGV"),
        ("the OOM killer", "ProcessDied: the task's process was killed by SIGKILL (perhaps by the kernel: out of memory)"),
        ("all descriptors closed", "ProcessDied"),
        ("a result that is no JSON", "ResultNotJSON"),
        ("a result that nothing can carry", "ResultNotJSON"),
        ("a result too large", "ResultTooLarge: fail returned 1048578 bytes"),
        ("no end of calls", "RecursionError"),
    ],
)
async def test_however_it_ends_only_its_own_task_fails(app: Stoker, kind: str, words: str) -> None:
    async with forging(retry=ONCE):
        neighbour = await forge.hammer.enqueue(1.0)
        await until(lambda: is_running(neighbour), START)
        failing = await forge.fail.enqueue(kind)
        with pytest.raises(TaskFailed, match=re.escape(words)):
            await failing.result(timeout=START)
        assert await neighbour.result(timeout=START) == 1
    status = await failing.status()
    assert (status.state, status.losses) == (TaskState.DEAD, 0), "a failure like any other, and no lost delivery"


async def test_a_child_that_dies_is_retried_as_any_failure(app: Stoker) -> None:
    async with forging(retry=Retry(max_retries=2, initial_delay=0.01, multiplier=1, jitter=Jitter.NONE)):
        handle = await forge.fail.enqueue("a segmentation fault")
        with pytest.raises(TaskFailed, match="SIGSEGV"):
            await handle.result(timeout=START)
    assert (await handle.status()).attempts == 3


async def test_the_traceback_comes_along(app: Stoker) -> None:
    async with forging(retry=ONCE):
        handle = await forge.fail.enqueue("an exception")
        with pytest.raises(TaskFailed):
            await handle.result(timeout=START)
    failure = (await handle.status()).failure
    assert failure
    assert "forge.py" in failure.traceback
    assert 'LookupError("no such mould")' in failure.traceback


async def test_wrong_arguments_are_buried_at_once_by_name(app: Stoker) -> None:
    async with forging():
        call = TaskCall("hammer", "default", payload=check_payload(b'{"seconds": "many"}'), id="wrong")
        await app.enqueue_many([call])
        await until(lambda: is_dead(app))
    status = await app.client.status("default", "wrong")
    assert status.failure
    assert (status.failure.type, status.attempts) == ("InvalidArguments", 1)
    assert "$.seconds" in status.failure.message


async def is_dead(app: Stoker) -> bool:
    return (await app.client.status("default", "wrong")).state is TaskState.DEAD


async def test_a_run_knows_of_itself_there_too(app: Stoker) -> None:
    async with forging():
        handle = await forge.know.enqueue()
        known = await handle.result(timeout=START)
    assert (known["id"], known["task"], known["queue"], known["attempt"]) == (handle.id, "know", "default", 1)
    assert known["fence"]


async def test_what_it_logs_is_the_workers_log(app: Stoker) -> None:
    """With the task's fields, whole tracebacks, and never torn: one process writes."""
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    try:
        async with forging():
            handle = await forge.tell.enqueue()
            await handle.result(timeout=START)
    finally:
        logging.getLogger().removeHandler(handler)
    lines = {line["message"]: line for line in map(json.loads, sink.getvalue().splitlines())}
    assert lines["by the context"]["task_id"] == handle.id
    assert lines["by the context"]["iron"] == 7
    assert lines["by a logger of its own: hot"]["level"] == "warning"
    assert "ValueError: too cold" in lines["with a traceback"]["exception"]


async def test_it_tells_how_far_it_is_and_what_it_does(app: Stoker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gate = tmp_path / "gate"
    handle = await forge.narrate.enqueue(str(gate))
    async with forging(children=ChildLimits(count=1)):
        status = await until(lambda: has_told(handle), START)
        assert (status.progress.done, status.progress.total, status.progress.note) == (1000, 2000, "blows")
        gate.touch()
        await handle.result(timeout=START)
        assert any(record.getMessage() == "the iron is \\udcff" for record in caplog.records), "no line is lost for its letters"
        next_one = await forge.listen.enqueue(1.0)
        await next_one.result(timeout=START)
        gate.unlink()
    status = await handle.status()
    assert status.progress is None, "it has ended: the result says more"
    own = [(line.attempt, line.level, line.text) for line in status.log if line.text != "and another thing"]
    assert own == [(1, "info", "half of 2000"), (1, "warning", "the iron is \\udcff")]
    status = await next_one.status()
    assert [line.text for line in status.log] == ["quiet"], "not what a thread of another run says"


async def has_told(handle: Any) -> Any:
    status = await handle.status()
    return status if status.progress and status.log else None


async def test_what_it_tells_counts_for_nothing_when_its_lease_went_to_another(app: Stoker, tmp_path: Path) -> None:
    handle = await forge.narrate.enqueue(str(tmp_path / "gate"))
    async with forging(name="anvil"):
        await until(lambda: has_told(handle), START)
        [child] = children_of(os.getpid())
        assert (await app.client.inspector.reap_worker("default", "anvil", 3)).given_back == 1
        await until(lambda: not living({child}))
        (tmp_path / "gate").touch()
        await handle.result(timeout=START)
    own = [(line.attempt, line.text) for line in (await handle.status()).log if line.text != "and another thing"]
    assert own == [(1, "half of 2000"), (2, "half of 2000"), (2, "the iron is \\udcff")]


async def test_its_soft_timeout_is_raised_in_it(app: Stoker) -> None:
    async with forging(retry=ONCE):
        assert await (await forge.temper.enqueue(forgiving=True)).result(timeout=START) == "cold: did not end within 0.3 s"
        with pytest.raises(TaskFailed, match=r"SoftTimeout: did not end within 0\.3 s"):
            await (await forge.temper.enqueue(forgiving=False)).result(timeout=START)


async def test_its_alarms_and_signal_handlers_end_with_it(app: Stoker) -> None:
    async with forging(retry=ONCE, children=ChildLimits(count=1)):
        child = await (await forge.leave_a_trap.enqueue()).result(timeout=START)
        assert await (await forge.step_on_it.enqueue()).result(timeout=START) == child


async def test_its_dependencies_are_opened_in_the_child(app: Stoker, caplog: pytest.LogCaptureFixture) -> None:
    async with forging():
        assert await (await forge.strike.enqueue()).result(timeout=START)
    assert [record.message for record in caplog.records if "anvil" in record.message] == ["anvil up", "anvil down"]


def test_what_a_child_cannot_have_is_refused_when_the_application_is_loaded() -> None:
    app = Stoker("x")

    async def session() -> str:
        return "on the loop"

    @app.task(executor="process")
    def cast(mould: Annotated[str, Depends(session)]) -> None: ...

    @app.task(executor="process")
    def pour(shop: Given[str]) -> None: ...

    with pytest.raises(Invalid, match=r"task cast: dependency .*session needs the event loop, and a child process has none"):
        cast._origin.declaration.check()
    with pytest.raises(Invalid, match="task pour: State is the worker's own"):
        pour._origin.declaration.check()


async def test_middleware_stays_in_the_worker_and_sees_what_the_child_did(app: Stoker) -> None:
    seen: list[str] = []

    async def watch(ctx: Context, call_next: RunNext) -> Any:
        try:
            value = await call_next(ctx)
        except Exception as error:
            seen.append(str(error))
            raise
        seen.append(f"{ctx.task}: {value}")
        return [value, "and more"]

    app.middleware("run")(watch)
    try:
        async with forging(retry=ONCE):
            handle = await forge.strike.enqueue()
            await until(lambda: seen, START)
            status = await until(lambda: succeeded(handle))
            with pytest.raises(TaskFailed, match="LookupError: no such mould"):
                await (await forge.fail.enqueue("an exception")).result(timeout=START)
    finally:
        application_of(app).run_layers.clear()
    assert seen == ["strike: True", "LookupError: no such mould"]
    assert bytes(status.result.value) == b'[true,"and more"]'


async def succeeded(handle: Any) -> Any:
    status = await handle.status()
    return status if status.state is TaskState.SUCCEEDED else None


async def test_what_it_sends_goes_through_the_workers_middleware(app: Stoker) -> None:
    async def stamp(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        return await call_next(replace(call, headers={"by": call.task}))

    application_of(app).enqueue_layers.append(stamp)
    try:
        async with forging():
            sent = await (await forge.delegate.enqueue()).result(timeout=START)
            status = await until(lambda: arrived(app, sent))
    finally:
        application_of(app).enqueue_layers.remove(stamp)
    assert status.headers == {"by": "chat"}


async def arrived(app: Stoker, task_id: str) -> Any:
    with suppress(NotFound):
        status = await app.client.status("default", task_id)
        return status if status.state is TaskState.SUCCEEDED else None


async def test_the_copy_that_a_fork_made_does_not_answer(app: Stoker) -> None:
    async with forging():
        assert await (await forge.split.enqueue()).result(timeout=START) == 1
        assert await (await forge.split.enqueue()).result(timeout=START) == 1


async def test_a_child_is_replaced_after_its_runs(app: Stoker) -> None:
    async with forging(children=ChildLimits(count=1, max_runs=2)):
        pids = [(await (await forge.where.enqueue()).result(timeout=START))[0] for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


async def test_a_child_is_replaced_when_it_has_grown(app: Stoker) -> None:
    async with forging(children=ChildLimits(count=1, max_memory=400 << 20)):
        pids = [await (await forge.hoard.enqueue(150)).result(timeout=START) for _ in range(4)]
    assert len(set(pids[:2])) == 1
    assert len(set(pids)) == 2


async def test_without_a_path_to_the_application_it_says_what_to_do(app: Stoker) -> None:
    async with working(app, retry=ONCE):
        with pytest.raises(TaskFailed, match=r"ProcessNotStarted: .*stoker worker module:attribute"):
            await (await forge.where.enqueue()).result(timeout=5)


async def test_an_application_that_only_the_child_cannot_import_is_reported(app: Stoker) -> None:
    async with working(app, app="forgery:app", retry=ONCE):
        with pytest.raises(TaskFailed, match="ProcessNotStarted: no module named 'forgery'"):
            await (await forge.where.enqueue()).result(timeout=START)


async def test_a_draining_worker_lets_a_child_finish(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    handle = await forge.hammer.enqueue(1.0)
    with worker_process(redis_url, tmp_path, "--drain-timeout", "30s", app="forge:app") as worker:
        await until(lambda: children_of(worker.process.pid), START)
        await until(lambda: is_running(handle))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    assert await handle.result(timeout=1) == 1


async def test_a_signal_to_the_whole_process_group_does_not_stop_a_child(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    """systemd and some shells signal every process; only the worker may decide."""
    handle = await forge.hammer.enqueue(1.0)
    with worker_process(redis_url, tmp_path, app="forge:app") as worker:
        [child] = await until(lambda: children_of(worker.process.pid), START)
        await until(lambda: worker.said("child process started"))
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(child, number)
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    assert await handle.result(timeout=1) == 1


async def test_after_the_drain_timeout_it_is_killed_and_given_back(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    handle = await forge.hammer.enqueue(3600)
    with worker_process(redis_url, tmp_path, "--drain-timeout", "300ms", app="forge:app") as worker:
        children = await until(lambda: children_of(worker.process.pid), START)
        await until(lambda: worker.said("child process started"))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
        assert not living(children)
    status = await handle.status()
    assert (status.state, status.attempts, status.losses) == (TaskState.READY, 0, 0)


async def test_when_the_worker_is_killed_no_child_stays_behind(app: Stoker, redis_url: str, tmp_path: Path) -> None:
    handles = [await forge.hammer.enqueue(3600) for _ in range(2)]
    with worker_process(redis_url, tmp_path, app="forge:app") as worker:
        await until(lambda: len(children_of(worker.process.pid)) == 2, START)
        await until(lambda: len(worker.said("child process started")) == 2)
        children = children_of(worker.process.pid)
        worker.signal(signal.SIGKILL)
        await worker.exit_code()
        await until(lambda: not living(children), 3)
    assert len(handles) == 2


def test_an_async_function_cannot_be_killed_in_a_process_so_it_is_refused() -> None:
    app = Stoker("x")

    async def sleep() -> None: ...

    with pytest.raises(Invalid, match='an async function runs on the event loop; for executor="process" make it a plain def'):
        app.task(executor="process")(sleep)
    with pytest.raises(Invalid, match='executor="thread"'):
        app.task(executor="thread")(sleep)
    with pytest.raises(Invalid, match='use "thread" or "process"'):
        app.task(executor="fiber")(lambda: None)  # type: ignore[call-overload]


async def test_a_worker_without_such_tasks_starts_no_child(app: Stoker) -> None:
    async with forging():
        await (await forge.chat.enqueue()).result(timeout=5)
        assert children_of(os.getpid()) == set()
