"""Workers as people run them in containers: below a shell, as a Job, recycled, with code that is not thread-safe."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from stoker import Stoker
from stoker.rules.shares import QueueWeight
from stoker.worker.system.first_process import shell_before, warning
from tests.stories.working import worker_process, working


def proc(folder: Path, **comm_of: tuple[int, str]) -> Path:
    """A /proc with these processes: `p7=(1, "python")` is process 7, its parent and name."""
    for key, (parent, name) in comm_of.items():
        process = folder / key[1:]
        process.mkdir()
        (process / "comm").write_text(f"{name}\n")
        (process / "stat").write_text(f"{key[1:]} ({name}) S {parent} 1 1 0\n")
    return folder


@pytest.mark.parametrize(
    ("processes", "shell"),
    [
        pytest.param({"p1": (0, "sh"), "p7": (1, "python) x (")}, "sh", id="a script without exec"),
        pytest.param({"p1": (0, "bash"), "p5": (1, "env"), "p7": (5, "python")}, "bash", id="with a process in between"),
        pytest.param({"p1": (0, "systemd"), "p7": (1, "python")}, "", id="a machine"),
        pytest.param({"p1": (0, "tini"), "p7": (1, "python")}, "", id="an init that forwards signals"),
        pytest.param({"p1": (0, "sh"), "p7": (0, "python")}, "", id="kubectl exec"),
        pytest.param({}, "", id="no /proc"),
    ],
)
def test_a_shell_as_first_process_is_found(tmp_path: Path, processes: dict[str, tuple[int, str]], shell: str):
    assert shell_before(7, proc(tmp_path, **processes)) == shell
    assert "`exec stoker worker" in warning("sh")


async def test_a_burst_works_until_all_queues_are_empty_and_leaves_what_is_due_later(app: Stoker):
    ran: list[str] = []

    @app.task(queue="first")
    async def cut(depth: int) -> None:
        ran.append("cut")
        if depth:
            await cut.enqueue(depth - 1)
            await glue.enqueue()

    @app.task(queue="second")
    async def glue() -> None:
        ran.append("glue")

    await cut.enqueue(3)
    due = await glue.options(delay=0.5).enqueue()
    later = await glue.options(delay=3600).enqueue()
    await app.client.inspector.pause("third")
    queues = tuple(map(QueueWeight, ("first", "second", "third")))
    async with working(app, queue="", queues=queues, burst=True, concurrency=2) as running:
        await asyncio.wait_for(running, 20)
    assert (ran.count("cut"), ran.count("glue")) == (4, 4)
    assert (await due.status()).state.value == "succeeded"
    assert (await later.status()).state.value == "scheduled"


async def test_a_burst_of_a_process_exits_with_0(redis_url: str, tmp_path: Path):
    with worker_process(redis_url, tmp_path, "--burst", "-q", "default") as worker:
        assert await worker.exit_code() == 0
        assert worker.said("the queues are empty: leaving")


async def test_after_its_limit_of_tasks_a_worker_starts_again_in_place(app: Stoker, redis_url: str, tmp_path: Path):
    where = app.task(name="where")(lambda: 0)
    with worker_process(redis_url, tmp_path, "--max-tasks", "3", "-q", "default") as worker:
        pids = {await (await where.enqueue()).result(timeout=30) for _ in range(3)}
        pids.add(await (await where.enqueue()).result(timeout=30))
        while len(worker.said("worker started")) < 2:
            await (await where.enqueue()).result(timeout=30)
        assert pids == {worker.process.pid}
        assert worker.said("the limit of tasks is reached: draining, to be replaced")


async def test_with_one_thread_plain_functions_run_one_after_the_other_in_all_queues(app: Stoker):
    together, most, names = 0, 0, set[str]()

    def work() -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        names.add(threading.current_thread().name)
        time.sleep(0.01)
        together -= 1

    tasks = [app.task(name=f"work_{queue}", queue=queue)(work) for queue in ("first", "second")]
    handles = [await task.enqueue() for task in tasks for _ in range(8)]
    queues = tuple(map(QueueWeight, ("first", "second")))
    async with working(app, queue="", queues=queues, threads=1, concurrency=8):
        for handle in handles:
            await handle.result(timeout=20)
    assert (most, len(names)) == (1, 1)
