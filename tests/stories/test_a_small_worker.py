"""A worker carries what it needs to run tasks, and nothing of what else Stoker can do."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stoker import Stoker
from tests.stories.apps import scales
from tests.stories.working import APPS, WorkerProcess, worker_process
from tests.waiting import until

COUNT = 10_000
LIMIT = 40 * 1024 * 1024
NEVER = {"redis", "typer", "pydantic", "rich", "yaml", "opentelemetry.sdk", "psutil", "fastapi", "uvicorn", "multiprocessing"}
"""The command line's and the gateway's libraries, and what nobody needs who exports no spans."""


@pytest.fixture
def worker(redis_url: str, tmp_path: Path) -> Iterator[WorkerProcess]:
    with worker_process(redis_url, tmp_path, "--concurrency", "200", app="scales:app") as running:
        yield running


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Stoker]:
    scales.app.redis_url = redis_url
    yield scales.app
    await scales.app.close()


async def test_it_takes_less_than_40_mb_also_when_it_has_worked(worker: WorkerProcess, app: Stoker) -> None:
    idle = await (await scales.weight.enqueue()).result(timeout=30)
    await app.enqueue_many([scales.nothing.prepare(number) for number in range(COUNT)])
    assert await (await scales.nothing.enqueue(COUNT)).result(timeout=60) == COUNT
    assert max(idle, await (await scales.weight.enqueue()).result(timeout=30)) < LIMIT


@pytest.mark.parametrize(("task", "slots"), [("litter", "4"), ("litter_in_a_thread", "4"), ("litter_in_a_thread", "16")])
async def test_garbage_in_reference_cycles_is_collected_by_its_size(
    redis_url: str, tmp_path: Path, app: Stoker, task: str, slots: str
) -> None:
    """Not by the number of objects alone: 200 runs that leave 8 MB each."""
    await app.enqueue_many([app.tasks[task].prepare() for _ in range(200)])
    with worker_process(redis_url, tmp_path, "--concurrency", slots, app="scales:app") as worker:
        await until(lambda: all_ended(app))
        assert await (await scales.highest.enqueue()).result(timeout=30) < 200 << 20
        await until(lambda: weight(worker) < 100 << 20, within=10)  # when idle, the rest


async def all_ended(app: Stoker) -> bool:
    return (await app.client.inspector.stats(["default"]))[0].totals.succeeded >= 200


def weight(worker: WorkerProcess) -> int:
    return int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_child_process_collects_after_each_run(redis_url: str, tmp_path: Path, app: Stoker) -> None:
    with worker_process(redis_url, tmp_path, "--task-processes", "1", app="scales:app"):
        peaks = [await (await scales.litter_in_a_child.enqueue()).result(timeout=30) for _ in range(20)]
    assert max(peaks) - peaks[0] < 16 << 20


def test_a_fork_reads_its_own_memory() -> None:
    program = """
import os
from stoker.worker.system.memory import resident
before = resident()
if not os.fork():
    before = resident()
    block = b"x" * (64 << 20)
    print(resident() - before > 60 << 20, flush=True)
    os._exit(0)
os.wait()
print(resident() - before < 30 << 20)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["True", "True"]


def test_a_threshold_of_the_application_stays() -> None:
    program = """
import gc
from stoker.worker.system.garbage import COLLECT_AFTER, GarbageCollector
GarbageCollector().start()
print(gc.get_threshold()[0] == COLLECT_AFTER)
gc.set_threshold(5000, 20, 30)
GarbageCollector().start()
print(gc.get_threshold())
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.split("\n")[:2] == ["True", "(5000, 20, 30)"]


async def test_it_has_imported_nothing_that_it_does_not_need(worker: WorkerProcess, app: Stoker) -> None:
    assert not NEVER & set(await (await scales.loaded.enqueue()).result(timeout=30))


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--help"], 0, "Run the tasks of one queue or several"),
        (["--concurrency", "many"], 2, "--concurrency"),
        (["--queue", "not a name"], 1, "error: bad queue name 'not a name'"),
        (["--lease", "1ms"], 1, "error: --lease:"),
        (["--check"], 0, "weight"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_a_command_line_is_judged_as_everywhere(flags: list[str], code: int, words: str) -> None:
    """Although a child reads it."""
    command = [sys.executable, "-m", "stoker", "worker", "scales:app", *flags]
    ended = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "PYTHONPATH": str(APPS)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await ended.communicate()
    assert ended.returncode == code
    assert words in " ".join(said.decode().split())


async def test_an_application_that_is_not_there_is_said_in_one_line() -> None:
    command = [sys.executable, "-m", "stoker", "worker", "nowhere:app"]
    ended = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, complaints = await ended.communicate()
    assert ended.returncode == 1
    assert complaints.decode().startswith("error: ")
    assert complaints.decode().count("\n") == 1
