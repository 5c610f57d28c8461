"""`stoker up`: the same manifest on one machine, with processes for pods."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from stoker.errors import Invalid
from stoker.local.manifest_file import load
from stoker.local.namespaces import settled
from stoker.local.supervisor import Supervisor
from stoker.manifest.task_queue import TaskQueue, parse
from stoker.queue.reads.statistics import read_totals_each
from stoker.redis.connect import connect
from stoker.rules.states import TaskState
from tests.redis_servers import free_port
from tests.stories.apps.bakery import app as bakery
from tests.stories.apps.bakery import bake
from tests.stories.observing import living, processes
from tests.stories.working import APPS
from tests.waiting import until

STARTS_WITHIN = 60.0


def manifest(folder: Path, **parts: Any) -> Path:
    """A TaskQueue in a hurry, in a file."""
    spec: dict[str, Any] = {
        "worker": {"app": "bakery:app", "concurrency": 2, "taskTimeout": "2s", "drainTimeout": "3s"},
        "lease": {"duration": "1s"},
        "scaling": {
            "maxReplicas": 2,
            "backlogPerReplica": 3,
            "idleAfter": "500ms",
            "scaleDown": {"stabilization": "500ms"},
        },
    }
    for part, fields in parts.items():
        spec[part] = fields if isinstance(fields, list) else {**spec.get(part, {}), **fields}
    file = folder / "queue.yaml"
    file.write_text(
        yaml.safe_dump({"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "default"}, "spec": spec})
    )
    return file


class Up:
    """`stoker up` as a process, and what it shows."""

    def __init__(self, file: Path, *flags: str) -> None:
        self._output = file.parent / "output.log"
        command = [sys.executable, "-m", "stoker", "up", "-f", str(file), "--data", str(file.parent / "data"), *flags]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")])}
        with self._output.open("wb") as sink:
            self.process = subprocess.Popen(command, env=environment, cwd=file.parent, stdout=sink, stderr=sink)

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def url(self) -> str:
        """Redis' URL, once it is shown."""
        found = re.search(r"redis (redis://\S+)", self.output)
        return found[1] if found else ""

    def children(self) -> dict[int, str]:
        """Its children that live: pid -> command line."""
        return {pid: command for pid, parent, command in processes() if parent == self.process.pid}

    def workers(self) -> list[int]:
        return [pid for pid, command in self.children().items() if command.endswith("stoker worker")]

    async def exit_code(self) -> int:
        await until(lambda: self.process.poll() is not None, STARTS_WITHIN)
        return int(self.process.returncode)


@contextmanager
def up(file: Path, *flags: str) -> Iterator[Up]:
    """It does not outlive the test, and none of its children does."""
    running = Up(file, *flags)
    try:
        yield running
    finally:
        left = set(running.children())
        running.process.kill()
        running.process.wait()
        for pid in living(left):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def bakery_at(url: str) -> Iterator[None]:
    before, bakery.redis_url = bakery.redis_url, url
    try:
        yield
    finally:
        bakery.redis_url = before


async def test_workers_come_with_the_work_and_go_with_it(tmp_path: Path) -> None:
    """0 -> 2 -> 0 on a server of its own, and Ctrl-C leaves nothing behind."""
    with up(manifest(tmp_path), "--port", "0") as running:
        with bakery_at(await until(lambda: running.url, STARTS_WITHIN)):
            assert running.workers() == []
            handles = [await bake.enqueue(0.2) for _ in range(12)]
            await until(lambda: len(running.workers()) == 2, STARTS_WITHIN)
            assert [await handle.result(timeout=STARTS_WITHIN) for handle in handles] == [1] * 12
            await until(lambda: running.workers() == [], STARTS_WITHIN)
            await bakery.close()
        # A worker that has ended is there until it is buried: only the server stays.
        children = await until(lambda: len(there := set(running.children())) == 1 and there, STARTS_WITHIN)
        running.process.send_signal(signal.SIGINT)
        assert await running.exit_code() == 0
        assert living(children) == set()
    assert "12/12 ended" in running.output
    assert "Draining." in running.output


async def test_ctrl_c_lets_running_tasks_end_first(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    with up(manifest(tmp_path), "--port", "0", "--redis-url", redis_url) as running, bakery_at(redis_url):
        await until(lambda: running.url, STARTS_WITHIN)
        handle = await bake.enqueue(1)
        await until(lambda: redis.lrange("bakery:notes", 0, -1), STARTS_WITHIN)
        running.process.send_signal(signal.SIGINT)
        assert await running.exit_code() == 0
        assert (await handle.status()).state is TaskState.SUCCEEDED
        await bakery.close()


async def test_a_killed_worker_is_replaced_and_its_task_runs_again(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    with up(manifest(tmp_path), "--port", "0", "--redis-url", redis_url) as running, bakery_at(redis_url):
        handle = await bake.enqueue(1)
        await until(lambda: redis.lrange("bakery:notes", 0, -1), STARTS_WITHIN)
        [worker] = running.workers()
        os.kill(worker, signal.SIGKILL)
        assert await handle.result(timeout=STARTS_WITHIN) == 2
        assert running.workers() != [worker]
        await bakery.close()


async def test_a_bug_in_one_reading_does_not_end_the_scaling(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown and logged, and the next step goes on."""
    failures = iter([ZeroDivisionError("planted")])

    async def faulty(*arguments: Any) -> Any:
        for error in failures:
            raise error
        return await read_totals_each(*arguments)

    redis = connect(redis_url)
    supervisor = Supervisor(settled(load(manifest(tmp_path))), redis, {}, tmp_path)
    monkeypatch.setattr("stoker.local.supervisor.read_totals_each", faulty)
    running = asyncio.create_task(supervisor.run())
    try:
        shown = await until(lambda: supervisor.views.get("default"))
        assert shown.trouble == "ZeroDivisionError: planted"
        await until(lambda: not supervisor.views["default"].trouble)
    finally:
        supervisor.stop()
        await running
        await redis.aclose()


def in_namespaces(*namespaces: str) -> list[TaskQueue]:
    spec = {"worker": {"app": "bakery:app"}}
    head = {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "spec": spec}
    return [parse({**head, "metadata": {"name": f"q{at}", "namespace": name}}) for at, name in enumerate(namespaces)]


@pytest.mark.parametrize(
    ("flag", "found"),
    [pytest.param("", ["stoker", "shop"], id="the manifest's, else stoker"), pytest.param("dev", ["dev", "dev"], id="the flag's")],
)
def test_the_namespace_of_a_manifest_without_a_cluster(flag: str, found: list[str]) -> None:
    assert [queue.key_namespace for queue in settled(in_namespaces("", "shop"), flag)] == found


def test_two_of_one_name_would_share_their_logs() -> None:
    [queue, _] = in_namespaces("shop", "mail")
    with pytest.raises(Invalid, match="two TaskQueues are named 'q0': run them apart"):
        settled([queue, queue])


async def test_a_namespace_has_its_own_tasks_and_workers(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """-n holds for reading the queue, for its workers and for the gateway; the first line shows it."""
    before, bakery.namespace = bakery.namespace, "shop"
    try:
        with up(manifest(tmp_path), "--port", "0", "--redis-url", redis_url, "-n", "shop") as running, bakery_at(redis_url):
            handle = await bake.enqueue(0)
            assert await handle.result(timeout=STARTS_WITHIN) == 1
            await bakery.close()
            assert "namespace shop" in running.output
        assert await redis.keys("{stoker*") == []
    finally:
        bakery.namespace = before


async def test_two_do_not_share_a_folder(tmp_path: Path) -> None:
    """Two servers on one append-only file would destroy it."""
    with up(manifest(tmp_path), "--port", "0") as first:
        await until(lambda: first.url, STARTS_WITHIN)
        with up(manifest(tmp_path), "--port", "0") as second:
            assert await second.exit_code() == 1
            assert "another stoker up keeps its data in" in second.output
        first.process.send_signal(signal.SIGINT)
        assert await first.exit_code() == 0


async def test_when_stoker_up_is_killed_no_process_stays_behind(tmp_path: Path) -> None:
    """Neither the server nor the gateway nor a worker in the middle of a task, once its drain timeout is over."""
    with up(manifest(tmp_path, scaling={"minReplicas": 1}), "--port", str(free_port())) as running:
        with bakery_at(await until(lambda: running.url, STARTS_WITHIN)):
            await bake.enqueue(1.5)
            async with Redis.from_url(bakery.redis_url) as redis:
                await until(lambda: redis.lrange("bakery:notes", 0, -1), STARTS_WITHIN)
            await bakery.close()
        children = set(running.children())
        assert len(children) == 3, "a server, a gateway, a worker"
        running.process.kill()
        await until(lambda: living(children) == set(), 20)


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        pytest.param(None, [], "cannot read", id="no such file"),
        pytest.param("a: [", [], "not YAML", id="no YAML"),
        pytest.param("kind: Secret", [], "contains no TaskQueue", id="no TaskQueue"),
        pytest.param({"worker": {"concurrency": 0}}, [], "spec.worker.concurrency", id="a value out of range"),
        pytest.param({"worker": {"app": ""}}, [], "spec.worker.app is missing", id="no application"),
        pytest.param({"worker": {"app": "nowhere:app"}}, [], "no module named 'nowhere'", id="a module that is not there"),
        pytest.param({"worker": {"app": "broken:app"}}, [], "broken.py:1", id="a module that does not import"),
        pytest.param({}, ["--redis-url", "redis://127.0.0.1:1/0"], "Redis", id="a Redis that does not answer"),
        pytest.param({}, ["--redis-url", "127.0.0.1"], "redis://", id="a URL that is none"),
    ],
)
async def test_what_it_cannot_run_is_one_clear_line(content: Any, flags: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    file = tmp_path / "queue.yaml"
    if isinstance(content, dict):
        file = manifest(tmp_path, **content)
    elif content is not None:
        file.write_text(content)
    with up(file, "--port", "0", *flags) as running:
        assert await running.exit_code() == 1
    assert words in running.output
    assert running.output.startswith("error: ")
    assert "Traceback" not in running.output
    if "YAML" not in words:
        assert len(running.output.strip().splitlines()) == 1, "a parser may need more lines to show the place"


async def test_a_schedule_of_the_manifest_brings_a_worker_when_it_is_due(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """From no worker at all, and back to none between its runs."""
    schedule = {"name": "bread", "cron": "@every 5s", "task": "bake", "payload": {"seconds": 0}}
    with up(manifest(tmp_path, schedules=[schedule]), "--port", "0", "--redis-url", redis_url) as running:
        await until(lambda: running.workers(), STARTS_WITHIN)
        await until(lambda: running.workers() == [], STARTS_WITHIN)
        await until(lambda: running.workers(), STARTS_WITHIN)
        await until(lambda: baked(redis, 2), STARTS_WITHIN)
    runs = [note.split()[1] for note in await redis.lrange("bakery:notes", 0, -1) if note.startswith("start")]
    assert len(runs) == len(set(runs)), "each moment once"


async def baked(redis: Redis, times: int) -> bool:
    return len(await redis.lrange("bakery:notes", 0, -1)) >= 2 * times
