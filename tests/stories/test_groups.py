"""Several worker processes behind one page, workers that start anew in place, and draining by HTTP."""

import asyncio
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stoker import Stoker
from stoker.rules.states import TaskState
from tests.redis_servers import free_port
from tests.stories.apps.bakery import bake, hoard, knead, where
from tests.stories.observing import is_running, living, notes, probe, processes, samples
from tests.stories.working import ENDS_WITHIN, WorkerProcess, worker_process
from tests.waiting import until

STARTS_WITHIN = 60.0
UNHURRIED = ("--lease", "30s")
"""For tasks that hold the interpreter while they take memory: a second is no lease where processors are scarce."""


@pytest.fixture
async def bakery(redis_url: str) -> AsyncIterator[Stoker]:
    from tests.stories.apps.bakery import app

    app.redis_url = redis_url
    yield app
    await app.close()


def members(group: WorkerProcess) -> list[int]:
    return sorted(pid for pid, parent, command in processes() if parent == group.process.pid and "stoker worker" in command)


async def ready(port: int) -> bool:
    try:
        return (await probe(port, "/readyz"))[0] == 200
    except OSError:
        return False


async def workers(app: Stoker) -> int:
    return (await app.client.inspector.stats(["default"]))[0].workers


async def test_processes_share_the_work_and_one_page(bakery: Stoker, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    with worker_process(redis_url, tmp_path, "--processes", "2", "--port", str(port), "--concurrency", "3") as group:
        await until(lambda: ready(port), STARTS_WITHIN)
        await until(lambda: both(bakery))
        pids = members(group)
        assert len(pids) == 2
        handles = [await where.enqueue() for _ in range(200)]
        ran_in = {await handle.result(timeout=10) for handle in handles}
        assert ran_in <= set(pids)
        counted = await samples(port)
        assert counted["stoker_tasks_succeeded_total{namespace=stoker,queue=default,task=where}"] == 200
        assert counted["stoker_worker_slots{namespace=stoker,queue=default,state=free}"] == 6
        assert counted["stoker_worker_processes{}"] == 2
        assert await probe(port, "/livez") == (200, "ok\n")
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0
        assert not living(set(pids))
    assert await workers(bakery) == 0


async def both(app: Stoker) -> bool:
    return await workers(app) == 2


async def test_a_group_lets_running_tasks_end(bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    handles = [await bake.enqueue(1.0) for _ in range(4)]
    with worker_process(redis_url, tmp_path, "--processes", "2", "--concurrency", "2") as group:
        await until(lambda: four_started(redis), STARTS_WITHIN)
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0
    assert [await handle.result(timeout=1) for handle in handles] == [1] * 4


async def four_started(redis: Redis) -> bool:
    return len(await notes(redis)) == 4


async def test_signalled_twice_all_workers_of_a_group_give_their_tasks_back(
    bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    handles = [await bake.enqueue(3600) for _ in range(4)]
    with worker_process(redis_url, tmp_path, "--processes", "2", "--concurrency", "2") as group:
        await until(lambda: four_started(redis), STARTS_WITHIN)
        group.signal(signal.SIGTERM)
        await until(lambda: len(group.said("draining")) == 2)
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0
    assert {(await handle.status()).state for handle in handles} == {TaskState.READY}


async def test_one_that_dies_is_replaced_and_its_counts_stay(bakery: Stoker, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    with worker_process(redis_url, tmp_path, "--processes", "2", "--port", str(port)) as group:
        await until(lambda: ready(port), STARTS_WITHIN)
        for _ in range(20):
            await (await where.enqueue()).result(timeout=5)
        assert (await samples(port))["stoker_tasks_succeeded_total{namespace=stoker,queue=default,task=where}"] == 20
        first = members(group)
        os.kill(first[0], signal.SIGKILL)
        await until(lambda: len(set(members(group)) - set(first)) == 1, STARTS_WITHIN)
        await until(lambda: ready(port), STARTS_WITHIN)
        await (await where.enqueue()).result(timeout=5)
        assert (await samples(port))["stoker_tasks_succeeded_total{namespace=stoker,queue=default,task=where}"] == 21
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0


async def test_when_the_parent_is_killed_its_workers_leave_in_order(
    bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    handle = await bake.enqueue(1.5)
    with worker_process(redis_url, tmp_path, "--processes", "2") as group:
        await until(lambda: notes(redis), STARTS_WITHIN)
        pids = set(members(group))
        group.signal(signal.SIGKILL)
        await group.exit_code()
        await until(lambda: not living(pids), ENDS_WITHIN)
    assert await handle.result(timeout=1) == 1


async def test_a_group_that_cannot_work_ends_with_the_reason(redis_url: str, tmp_path: Path) -> None:
    with worker_process(redis_url, tmp_path, "--processes", "2", app="bakery:nothing") as group:
        assert await group.exit_code() == 1
        log = (tmp_path / "worker.log").read_text()
    assert "bakery has no Stoker named 'nothing'" in log
    assert "a worker process ended with exit code 1 before any could work" in log


async def test_over_its_memory_limit_a_worker_restarts_in_the_same_process(bakery: Stoker, redis_url: str, tmp_path: Path) -> None:
    """Under the same process id: nobody outside sees an end, so no crash-loop back-off waits."""
    with worker_process(redis_url, tmp_path, *UNHURRIED, "--max-memory", "300MiB") as worker:
        slow = await bake.enqueue(1.5)
        await until(lambda: is_running(bakery, slow.id), STARTS_WITHIN)
        pid = await (await hoard.enqueue(300)).result(timeout=STARTS_WITHIN)
        assert pid == worker.process.pid
        await until(lambda: len(worker.said("worker started")) == 2, STARTS_WITHIN)
        assert await slow.result(timeout=1) == 1, "what ran was finished first"
        assert await (await where.enqueue()).result(timeout=5) == pid
        names = {line["worker"] for line in worker.said("worker started")}
        assert len(names) == 2, "its leases are told apart"
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
    assert await workers(bakery) == 0


async def test_signalled_while_it_recycles_a_worker_drains(bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path) -> None:
    with worker_process(redis_url, tmp_path, *UNHURRIED, "--max-memory", "300MiB") as worker:
        await bake.enqueue(2.0)
        await until(lambda: notes(redis), STARTS_WITHIN)
        await (await hoard.enqueue(300)).result(timeout=STARTS_WITHIN)
        await until(lambda: worker.said("draining"))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
        assert len(worker.said("worker started")) == 1


async def test_a_memory_limit_that_the_application_alone_exceeds_is_refused(redis_url: str, tmp_path: Path) -> None:
    with worker_process(redis_url, tmp_path, "--max-memory", "10MiB") as worker:
        assert await worker.exit_code() == 1
    assert "before its first task, the limit is 10 MiB" in (tmp_path / "worker.log").read_text()


async def test_a_worker_of_a_group_recycles_alone(bakery: Stoker, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    flags = ("--processes", "2", "--port", str(port), *UNHURRIED, "--max-memory", "300MiB")
    with worker_process(redis_url, tmp_path, *flags) as group:
        await until(lambda: ready(port), STARTS_WITHIN)
        pids = members(group)
        assert await (await hoard.enqueue(300)).result(timeout=STARTS_WITHIN) in pids
        await until(lambda: len(group.said("worker started")) == 3, STARTS_WITHIN)
        await until(lambda: ready(port), STARTS_WITHIN)
        assert members(group) == pids
        assert (await samples(port))["stoker_tasks_succeeded_total{namespace=stoker,queue=default,task=hoard}"] == 1
        group.signal(signal.SIGTERM)
        assert await group.exit_code() == 0


@pytest.mark.parametrize("flags", [(), ("--processes", "2")], ids=["one worker", "a group"])
async def test_drain_answers_when_nothing_runs(
    bakery: Stoker, redis: Redis, redis_url: str, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """It takes nothing more, and stays until it is told to leave: a container that ended would be started again."""
    port = free_port()
    running = await bake.enqueue(4.0)
    with worker_process(redis_url, tmp_path, "--port", str(port), *flags) as worker:
        await until(lambda: notes(redis), STARTS_WITHIN)
        await until(lambda: ready(port), STARTS_WITHIN)
        assert (await probe(port, "/drain?timeout=100ms", "POST"))[0] == 503
        for unclear in ("timeout=soon", "timeout=-5s", "wait=5s"):
            assert (await probe(port, f"/drain?{unclear}", "POST"))[0] == 400
        assert (await probe(port, "/drain"))[0] == 405, "an image of a web page is a GET"
        for page in ({"Origin": "http://evil.example.org"}, {"Sec-Fetch-Site": "cross-site"}):
            assert (await probe(port, "/drain", "POST", **page))[0] == 403
        waiting = await bake.enqueue(0)
        assert await probe(port, "/drain?timeout=30s", "POST") == (200, "ok\n")
        assert await running.result(timeout=1) == 1
        assert (await waiting.status()).state is TaskState.READY
        await until(lambda: not_ready(port))
        assert (await probe(port, "/livez"))[0] == 200
        assert (await probe(port, "/drain?timeout=soon", "POST"))[0] == 400
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0


async def test_the_command_drains_the_worker_of_this_machine(bakery: Stoker, redis_url: str, tmp_path: Path) -> None:
    """For a preStop hook by exec: a kubelet's httpGet only GETs."""
    port = free_port()
    with worker_process(redis_url, tmp_path, "--port", str(port)):
        await until(lambda: ready(port), STARTS_WITHIN)
        assert await command("worker", "drain", "--port", str(port)) == (
            0,
            "drained: the worker takes no more tasks, and none runs",
        )
        await until(lambda: not_ready(port))
    code, said = await command("worker", "drain", "--port", str(port))
    assert code == 1
    assert f"no worker answers on port {port}" in said


async def command(*arguments: str) -> tuple[int | None, str]:
    stoker = [sys.executable, "-m", "stoker", *arguments]
    process = await asyncio.create_subprocess_exec(*stoker, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    said, _ = await process.communicate()
    return process.returncode, said.decode().strip()


async def not_ready(port: int) -> bool:
    return (await probe(port, "/readyz"))[0] == 503


async def test_drain_counts_threads_too_and_is_posted(bakery: Stoker, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    handle = await knead.enqueue(1.0)
    with worker_process(redis_url, tmp_path, "--port", str(port)) as worker:
        await until(lambda: is_running(bakery, handle.id), STARTS_WITHIN)
        _, impatient = await asyncio.open_connection("127.0.0.1", port)
        impatient.write(b"POST /drain?timeout=100ms HTTP/1.0\r\n\r\n")
        impatient.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        impatient.transport.abort()  # it will not wait for the answer
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /drain HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.splitlines()[0].split()[1] == b"200"
        assert await handle.result(timeout=1) == "dough"
        assert worker.process.poll() is None
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


async def test_a_change_of_the_source_restarts_the_worker(redis_url: str, tmp_path: Path) -> None:
    source = """from stoker import Stoker\napp = Stoker("draft")\n@app.task()\nasync def say() -> str:\n    return {!r}\n"""
    module, log = tmp_path / "draft.py", tmp_path / "worker.log"
    module.write_text(source.format("first"))
    environment = {**os.environ, "STOKER_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "stoker", "worker", "draft:app", "--port", "0", "--lease", "1s", "--reload"]
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=environment, stdout=sink, stderr=sink)
    try:
        assert await said_by(redis_url) == "first"
        module.write_text("a mistake that is no Python")
        await until(lambda: b"waits for a change" in log.read_bytes(), STARTS_WITHIN)
        assert f"draft does not import: SyntaxError: invalid syntax ({module}:1)" in log.read_text()
        module.write_text(source.format("second and longer"))
        await until(lambda: log.read_bytes().count(b"worker started") == 2, STARTS_WITHIN)
        assert await said_by(redis_url) == "second and longer"
        process.terminate()
        assert await asyncio.wait_for(process.wait(), ENDS_WITHIN) == 0
    finally:
        if process.returncode is None:
            process.kill()


async def said_by(redis_url: str) -> str:
    app = Stoker("draft", redis=redis_url)

    @app.task()
    async def say() -> str: ...

    try:
        return await (await say.enqueue()).result(timeout=STARTS_WITHIN)
    finally:
        await app.close()
