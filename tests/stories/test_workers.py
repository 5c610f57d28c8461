"""Workers as processes: they leave politely, die, freeze, and nothing is lost."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stoker import Stoker
from stoker.queue.records import QueueStats
from stoker.rules.states import TaskState
from tests.redis_servers import free_port
from tests.stories.apps.bakery import bake, bake_once, knead, rise, watch
from tests.stories.observing import is_running, notes, samples
from tests.stories.working import worker_process
from tests.waiting import until

LOST_AND_FOUND = 30.0
"""Seconds within which a task must be back after its worker's death, on a slow machine: the lease is one second."""
PROMISED = 1.0 + 2.0
"""The lease, and two seconds."""


@pytest.fixture
async def bakery(redis_url: str) -> Stoker:
    """The application that the processes run, seen from outside."""
    from tests.stories.apps.bakery import app

    app.redis_url = redis_url
    yield app
    await app.close()


async def stats(app: Stoker) -> QueueStats:
    return (await app.client.inspector.stats(["default"]))[0]


async def test_a_killed_workers_task_runs_again_elsewhere(bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Nobody says goodbye at kill -9: the lease ends, and the next worker runs the task as attempt 2."""
    handle = await bake_once.enqueue()
    with worker_process(redis_url, tmp_path, name="first") as first:
        await until(lambda: notes(redis))
        first.signal(signal.SIGKILL)
        assert await first.exit_code() == -signal.SIGKILL
    with worker_process(redis_url, tmp_path, name="second"):
        assert await handle.result(timeout=LOST_AND_FOUND) == 2
    assert await notes(redis) == [f"start {handle.id} 1", f"start {handle.id} 2"]
    counted = await stats(bakery)
    assert (counted.totals.lost, counted.totals.failed, counted.totals.succeeded) == (1, 0, 1)


async def test_no_task_waits_behind_the_long_tasks_of_another_worker(bakery: Stoker, redis_url: str, tmp_path: Path) -> None:
    """However many live long tasks there are: what a dead worker held runs again within its lease and two seconds, with no new
    traffic, and none of theirs is taken away.
    """
    handles = [await bake_once.enqueue() for _ in range(3)]
    with worker_process(redis_url, tmp_path, "--concurrency", "3", name="lost") as lost:
        await until(lambda: running(bakery, 3))
        for _ in range(300):
            await rise.enqueue(60.0)
        with worker_process(redis_url, tmp_path, "--concurrency", "310", name="busy"):
            await until(lambda: running(bakery, 303))
            lost.signal(signal.SIGKILL)
            killed = time.monotonic()
            assert [await handle.result(timeout=LOST_AND_FOUND) for handle in handles] == [2, 2, 2]
            assert time.monotonic() - killed <= PROMISED
            counted = await stats(bakery)
            assert (counted.totals.lost, counted.running) == (3, 300)


async def running(app: Stoker, count: int) -> bool:
    return (await stats(app)).running == count


async def test_what_a_lost_pod_held_is_given_back_at_once(bakery: Stoker, redis_url: str, tmp_path: Path) -> None:
    """The operator has seen the pod die: nobody waits for the lease, here of ten minutes."""
    inspector = bakery.client.inspector
    handle = await bake_once.enqueue()

    with worker_process(redis_url, tmp_path, "--name", "oven-1", "--lease", "10m") as first:
        await until(lambda: running(bakery, 1))
        first.process.kill()
        await first.exit_code()
    assert (await inspector.reap_worker("default", "oven-12", 3)).given_back == 0
    assert (await inspector.reap_worker("default", "oven", 3)).given_back == 0
    assert (await handle.status()).state is TaskState.RUNNING
    assert (await inspector.reap_worker("default", "oven-1", 3)).given_back == 1
    with worker_process(redis_url, tmp_path, "--name", "oven-2", name="second"):
        assert await handle.result(timeout=10) == 2
    [past] = (await handle.status()).history
    assert (past.type, past.worker.rpartition("-")[0].rpartition("-")[0]) == ("WorkerLost", "oven-1")


async def test_a_frozen_worker_finds_that_its_word_no_longer_counts(
    bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    """A machine that sleeps past the lease wakes up with a finished task that another has run: its outcome is refused."""
    handle, port = await bake.enqueue(0.3), free_port()
    with worker_process(redis_url, tmp_path, "--port", str(port), name="frozen") as frozen:
        await until(lambda: notes(redis))
        frozen.signal(signal.SIGSTOP)
        with worker_process(redis_url, tmp_path, name="awake"):
            assert await handle.result(timeout=LOST_AND_FOUND) == 2
        frozen.signal(signal.SIGCONT)
        await until(lambda: refused(bakery))
        counted = await until(lambda: stale_settles(port))
        assert counted == await refused(bakery)
        frozen.signal(signal.SIGTERM)
        assert await frozen.exit_code() == 0
        assert frozen.said("settlements refused: the leases were lost")
    assert await handle.result(timeout=1) == 2
    assert (await stats(bakery)).totals.succeeded == 1


async def stale_settles(port: int) -> float:
    """As the worker's own metrics have it."""
    return (await samples(port)).get("stoker_stale_settles_total{namespace=stoker,queue=default}", 0.0)


async def refused(app: Stoker) -> int:
    return (await stats(app)).totals.stale_settles


async def test_a_long_task_keeps_its_lease(bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Heartbeats renew the lease of one second, also while a plain function keeps a thread busy."""
    handles = [await bake.enqueue(2.5), await knead.enqueue(2.5)]
    with worker_process(redis_url, tmp_path):
        assert [await handle.result(timeout=10) for handle in handles] == [1, "dough"]
    assert (await stats(bakery)).totals.lost == 0


async def test_a_draining_worker_finishes_what_it_runs_and_takes_nothing_new(
    bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    running = await watch.enqueue()
    with worker_process(redis_url, tmp_path, "--concurrency", "1") as worker:
        await until(lambda: notes(redis))
        waiting = await bake.enqueue(0)
        worker.signal(signal.SIGTERM)
        await until(lambda: worker.said("draining"))
        await redis.rpush("bakery:open", "now")  # type: ignore[misc]
        assert await worker.exit_code() == 0
        assert worker.said("worker stopped")
    assert (await running.status()).state is TaskState.SUCCEEDED
    assert (await waiting.status()).state is TaskState.READY
    assert (await stats(bakery)).workers == 0, "it said goodbye"


async def test_signalled_twice_a_worker_gives_its_tasks_back_at_once(
    bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    first = await bake.enqueue(3600)
    second = await bake.enqueue(3600)
    with worker_process(redis_url, tmp_path) as worker:
        await until(lambda: both_started(redis))
        worker.signal(signal.SIGTERM)
        await until(lambda: worker.said("draining"))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    for handle in (first, second):
        status = await handle.status()
        assert (status.state, status.attempts, status.losses) == (TaskState.READY, 0, 0)
    page = await bakery.client.inspector.tasks("default", TaskState.READY)
    assert [task.id for task in page.tasks] == [first.id, second.id]


async def both_started(redis: Redis) -> bool:
    return len(await notes(redis)) == 2


async def test_after_the_drain_timeout_the_rest_is_given_back(bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    handle = await bake.enqueue(3600)
    with worker_process(redis_url, tmp_path, "--drain-timeout", "300ms") as worker:
        await until(lambda: notes(redis))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    assert (await handle.status()).state is TaskState.READY


async def test_a_thread_that_cannot_be_stopped_does_not_keep_the_process(
    bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    handle = await knead.enqueue(60)
    with worker_process(redis_url, tmp_path, "--drain-timeout", "300ms") as worker:
        await until(lambda: is_running(bakery, handle.id))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    assert (await handle.status()).state is TaskState.READY


@pytest.mark.parametrize(
    ("app", "words"),
    [
        pytest.param("bakery", "module:attribute", id="no attribute"),
        pytest.param("nowhere.tasks:app", "no module named 'nowhere'", id="no such module"),
        pytest.param("bakery:shop", "it has: app", id="another attribute"),
        pytest.param("broken:app", "broken.py:2", id="a module that fails"),
        pytest.param("untidy:app", "untidy.py", id="a module that is no Python"),
        pytest.param("unhinted:app", "type hints", id="a type hint that nobody can resolve"),
    ],
)
async def test_an_application_that_does_not_load_is_one_clear_line(app: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("\nimport_that_fails()\n")
    (tmp_path / "untidy.py").write_text("def (:\n")
    (tmp_path / "unhinted.py").write_text(
        "from stoker import Stoker\napp = Stoker('x')\n@app.task()\nasync def f(a: 'Nothing') -> None: ...\n"
    )
    code, said = await stoker("worker", app, "--check", folder=tmp_path)
    assert code == 1
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert words in said


async def stoker(*arguments: str, folder: Path) -> tuple[int, str]:
    """Run the command line to its end: the exit code, and what it said on stderr."""
    import os
    import sys

    from tests.stories.working import APPS

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")])}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stoker", *arguments),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    return process.returncode or 0, stderr.decode().strip()


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        pytest.param(["--redis-url", "localhost:6379"], 1, "redis://", id="a URL without scheme"),
        pytest.param(["--queue", "No Queue"], 1, "queue name", id="a queue name with a blank"),
        pytest.param(["--lease", "100ms"], 1, "lease", id="a lease too short"),
        pytest.param(["--lease", "soon"], 2, "duration", id="a lease in words"),
        pytest.param(["--concurrency", "0"], 2, "concurrency", id="no slots"),
    ],
)
async def test_a_wrong_setting_is_a_clear_message(flags: list[str], code: int, words: str, tmp_path: Path) -> None:
    ended, said = await stoker("worker", "bakery:app", *flags, folder=tmp_path)
    assert ended == code
    assert words in said
    assert "Traceback" not in said
