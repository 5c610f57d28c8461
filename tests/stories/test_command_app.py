"""The ready-made command application: a TaskQueue that runs programs of its image, and only those that are named."""

import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from stoker import Retry, TaskFailed
from stoker.apps.command import ALLOW, ALLOW_ENV, KEPT, app, run
from stoker.rules.states import TaskState
from stoker.worker.system.managed_process import ManagedProcess
from tests.stories.working import working
from tests.waiting import until


@pytest.fixture
async def allowed(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """It may run a few programs, one of which is the test's own. Yields where that is."""
    own = tmp_path / "own"
    monkeypatch.setattr(app, "redis_url", redis_url)
    monkeypatch.setenv(ALLOW, f"cat,printf env,{own}")
    monkeypatch.setenv(ALLOW_ENV, "COLOUR")
    monkeypatch.setenv("STOKER_REDIS_URL", redis_url)
    yield own
    await app.close()


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


async def death_of(argv: list[str], **options: Any) -> str:
    """Why this run is buried, at once."""
    handle = await run.options(retry=Retry(max_retries=0)).enqueue(argv, **options)
    with pytest.raises(TaskFailed) as failed:
        await handle.result(timeout=10)
    return str(failed.value)


@pytest.mark.usefixtures("allowed")
async def test_a_program_runs_and_what_it_says_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    async with working(app):
        with caplog.at_level("INFO", "stoker"):
            ended = await (await run.enqueue(["printf", "%s\n", "tea for two; rm -rf $HOME", "`id`"])).result(timeout=10)
        assert (ended["code"], ended["stdout"], ended["stderr"]) == (0, "tea for two; rm -rf $HOME\n`id`\n", "")
        ended = await (await run.enqueue(["cat"], stdin="ä\n" * 20_000)).result(timeout=10)
        assert ended["stdout"] == ("ä\n" * 20_000).encode()[-KEPT:].decode(errors="replace"), "the end of it"
    assert "tea for two; rm -rf $HOME" in caplog.messages


async def test_an_exit_code_is_a_success_a_failure_or_the_end(allowed: Path, tmp_path: Path) -> None:
    busy = program(
        allowed, f'echo x >> {tmp_path}/runs; echo "no room" >&2; [ $(wc -l < {tmp_path}/runs) -gt 2 ] || exit 75; exit 3'
    )
    async with working(app):
        ended = await (await run.enqueue([busy], success=[0, 3])).result(timeout=10)
        assert (ended["code"], ended["stderr"]) == (3, "no room\n")
        assert (tmp_path / "runs").read_text() == "x\n" * 3, "75 was tried again"
        handle = await run.enqueue([busy], dead=[3])
        with pytest.raises(TaskFailed, match="ended with exit code 3: no room"):
            await handle.result(timeout=10)
        assert (tmp_path / "runs").read_text() == "x\n" * 4, "3 was not"


async def test_too_long_is_the_end_of_it_and_of_its_children(allowed: Path, tmp_path: Path) -> None:
    stubborn = program(allowed, f'trap "" TERM; sleep 600 & echo $! > {tmp_path}/child; while :; do wait; done')
    async with working(app):
        assert "did not end within 0.3 s" in await death_of([stubborn], timeout=0.3)
    await until(lambda: is_gone(int((tmp_path / "child").read_text())))


async def test_a_cancelled_program_is_killed(allowed: Path, tmp_path: Path) -> None:
    slow = program(allowed, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    async with working(app):
        handle = await run.enqueue([slow])
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        await handle.cancel()
        await until(lambda: is_cancelled(handle.id))
    assert is_gone(int((tmp_path / "pid").read_text()))


async def test_what_it_leaves_behind_does_not_hold_the_task(allowed: Path, tmp_path: Path) -> None:
    hasty = program(allowed, f"sleep 600 & echo $! > {tmp_path}/child; echo done")
    async with working(app):
        ended = await (await run.enqueue([hasty])).result(timeout=10)
    assert ended["stdout"] == "done\n"
    assert is_gone(int((tmp_path / "child").read_text()))


DAEMON = (
    "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); "
    "open({0!r}, 'w').write(str(os.getpid())); time.sleep(600)"
)


def leaving(allowed: Path, child: Path, ending: str) -> str:
    """A program that leaves a daemon behind, in a session of its own, and a child that has left its process group."""
    daemon = f'{sys.executable} -ISc "{DAEMON.format(str(child))}"'
    grandchild = f"setsid sh -c 'echo $$ > {child}2; sleep 600' &"
    return program(allowed, f"{daemon}; {grandchild} until [ -s {child} -a -s {child}2 ]; do sleep 0.01; done; {ending}")


def written(child: Path) -> list[int]:
    """Their process ids; none before both are there."""
    texts = [path.read_text() for path in (child, Path(f"{child}2")) if path.exists()]
    return [int(text) for text in texts] if len(texts) == 2 and all(texts) else []


@pytest.mark.parametrize("ending", ["echo done", "exit 3", "kill -9 $$"])
async def test_no_descendant_outlives_a_program_that_ends(allowed: Path, tmp_path: Path, ending: str) -> None:
    leaves = leaving(allowed, tmp_path / "child", ending)
    async with working(app):
        handle = await run.options(retry=Retry(max_retries=0)).enqueue([leaves])
        with suppress(TaskFailed):
            await handle.result(timeout=10)
    assert [is_gone(child) for child in written(tmp_path / "child")] == [True, True]


async def test_no_descendant_outlives_a_timeout(allowed: Path, tmp_path: Path) -> None:
    leaves = leaving(allowed, tmp_path / "child", "sleep 600")
    async with working(app):
        assert "did not end within 2 s" in await death_of([leaves], timeout=2.0)
    assert [is_gone(child) for child in written(tmp_path / "child")] == [True, True]


async def test_no_descendant_outlives_a_cancellation(allowed: Path, tmp_path: Path) -> None:
    leaves = leaving(allowed, tmp_path / "child", f"echo > {tmp_path}/ready; sleep 600")
    async with working(app):
        handle = await run.enqueue([leaves])
        await until(lambda: (tmp_path / "ready").exists())
        await handle.cancel()
        await until(lambda: is_cancelled(handle.id))
    assert [is_gone(child) for child in written(tmp_path / "child")] == [True, True]


async def test_a_storm_of_daemons_is_ended(allowed: Path, tmp_path: Path) -> None:
    storm = program(allowed, f"while :; do setsid sleep 6123 & echo $! >> {tmp_path}/children; sleep 0.005; done")
    async with working(app):
        await death_of([storm], timeout=0.5)
    children = [int(line) for line in (tmp_path / "children").read_text().split()]
    assert len(children) > 5
    assert all(map(is_gone, children))


async def test_a_program_ends_with_its_worker(allowed: Path, tmp_path: Path, redis_url: str) -> None:
    leaves = leaving(allowed, tmp_path / "child", "sleep 600")
    with running_worker(redis_url, leaves) as worker:
        await run.enqueue([leaves])
        await until(lambda: written(tmp_path / "child"))
        worker.kill()
        worker.wait()
        await until(lambda: all(map(is_gone, written(tmp_path / "child"))))


SPY = """#!{python} -IS
import glob, os, sys, time
mark = b"client_name=" + b"betrayed"
open({folder!r} + "/member", "w").write(open("/proc/%d/stat" % os.getppid()).read().split()[3])
found, until, seen = set(), time.monotonic() + {seconds}, set()
while time.monotonic() < until:
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
        try:
            text = open(path, "rb").read()
        except OSError:
            continue
        seen.add(path)
        if mark in text:
            found.add(path)
print("found", sorted(found), "of", len(seen))
"""


def spy(path: Path, folder: Path, seconds: int) -> None:
    path.write_text(SPY.format(python=sys.executable, folder=str(folder), seconds=seconds))
    path.chmod(0o755)


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_program_cannot_read_the_redis_url_of_its_worker(
    allowed: Path, tmp_path: Path, redis_url: str, processes: int
) -> None:
    """Nor of one that is being started: in a group, another member dies and is replaced meanwhile."""
    spy(allowed, tmp_path, seconds=8 if processes > 1 else 1)
    with running_worker(redis_url + "?client_name=betrayed", str(allowed), processes) as worker:
        handle = await run.enqueue([str(allowed)])
        await until(lambda: (tmp_path / "member").exists() and (tmp_path / "member").read_text())
        if processes > 1:
            own = int((tmp_path / "member").read_text())
            other = next(child for child in children_of(worker.pid) if child != own)
            os.kill(other, signal.SIGKILL)
            await until(lambda: len(children_of(worker.pid)) == processes and other not in children_of(worker.pid))
        ended = await handle.result(timeout=30)
    assert ended["stdout"].startswith("found [] of "), ended
    assert int(ended["stdout"].split()[-1]) > 2, "it did look"


def test_credentials_on_the_command_line_are_refused(redis_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, ALLOW: "cat"}
    url = redis_url.replace("redis://", "redis://default:@")
    command = [sys.executable, "-m", "stoker", "worker", "stoker.apps.command:app", "--port", "0", "--redis-url", url]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "--redis-url has credentials" in ended.stderr


async def test_a_process_is_handed_the_url_beside_its_environment(tmp_path: Path) -> None:
    script = (
        "import os; from stoker.worker.system.secrecy import take_url; take_url(); "
        "print(os.environ['STOKER_REDIS_URL'], 'redis:' in open('/proc/self/environ').read())"
    )
    process = await ManagedProcess.start(
        "taker", [sys.executable, "-c", script], {"STOKER_REDIS_URL": "redis://own"}, tmp_path / "log", secret_url="redis://own"
    )
    assert await process.ended() == 0
    assert process.log_tail() == "redis://own False"


async def test_the_hook_that_drains_hides_its_environment_too() -> None:
    """It lasts as long as the programs do."""
    with socket.create_server(("127.0.0.1", 0)) as silent, draining_hook(silent.getsockname()[1]) as hook:
        await until(lambda: not readable(hook.pid))
        assert hook.poll() is None


@contextmanager
def draining_hook(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "stoker", "worker", "drain", "--port", str(port)]
    hook = subprocess.Popen(command, env={**os.environ, "STOKER_REDIS_URL": "redis://own"}, preexec_fn=as_in_a_container)
    try:
        yield hook
    finally:
        hook.kill()
        hook.wait()


def readable(process: int) -> bool:
    """Whether a program may read the environment that a process was started with."""
    command = ["cat", f"/proc/{process}/environ"]
    return subprocess.run(command, preexec_fn=as_in_a_container, capture_output=True, check=False).returncode == 0


def children_of(parent: int) -> list[int]:
    found = []
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat_file.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(stat_file.parent.name))
    return found


def as_in_a_container() -> None:
    """Without CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_PERFMON, with which root may look into other processes."""
    for capability in (19, 21, 38):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails where the tests are not root


@contextmanager
def running_worker(redis_url: str, programs: str, processes: int = 1) -> Iterator["subprocess.Popen[bytes]"]:
    """A real worker process of this application."""
    environment = {**os.environ, "STOKER_REDIS_URL": redis_url, ALLOW: programs}
    command = [sys.executable, "-m", "stoker", "worker", "stoker.apps.command:app", "--port", "0", "--processes", str(processes)]
    worker = subprocess.Popen([*command, "--queue", "default"], env=environment, preexec_fn=as_in_a_container)
    try:
        yield worker
    finally:
        worker.terminate()
        worker.wait(20)


async def test_a_flood_of_output_stays_small(allowed: Path, caplog: pytest.LogCaptureFixture) -> None:
    flood = program(allowed, "yes | head -c 20000000; printf '%01000000d' 7")
    async with working(app):
        with caplog.at_level("INFO", "stoker"):
            ended = await (await run.enqueue([flood])).result(timeout=20)
    assert len(ended["stdout"]) == KEPT
    assert ended["stdout"].endswith("7")
    assert sum(message == "y" for message in caplog.messages) == 1000
    assert "the rest of the output is not logged" in caplog.messages


@pytest.mark.usefixtures("allowed")
async def test_nothing_else_can_be_run(allowed: Path, tmp_path: Path) -> None:
    program(tmp_path / "cat", "echo stolen")
    not_a_program = tmp_path / "own"
    not_a_program.write_text("no right to run it")
    async with working(app):
        for argv in (
            ["sh", "-c", "id"],
            ["/bin/cat"],
            ["../cat"],
            [str(tmp_path / "cat")],
            ["cat /etc/passwd"],
            ["Cat"],
            ["", "cat"],
        ):
            assert "STOKER_COMMAND_ALLOW lists the programs" in await death_of(argv), argv
        for argv in ([], ["cat", "a\0b"]):
            assert "must be a non-empty list of strings" in await death_of(argv)
        assert "not found in this container" in await death_of([str(allowed)])
        for name in ("PATH", "LD_PRELOAD", "BASH_ENV", "STOKER_REDIS_URL", ""):
            assert "are not allowed: STOKER_COMMAND_ALLOW_ENV" in await death_of(["cat"], env={name: "x"}), name


@pytest.mark.usefixtures("allowed")
async def test_a_program_learns_nothing_of_stoker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "backups")
    async with working(app):
        ended = await (await run.enqueue(["env"], env={"COLOUR": "blue"})).result(timeout=10)
    variables = dict(line.partition("=")[::2] for line in ended["stdout"].splitlines())
    assert (variables["COLOUR"], variables["BUCKET"]) == ("blue", "backups")
    assert not [name for name in variables if name.startswith("STOKER_")], "where Redis is, above all"


async def test_a_signal_is_named(allowed: Path) -> None:
    async with working(app):
        assert "ended with SIGKILL" in await death_of([program(allowed, "kill -9 $$")])


def test_without_a_list_it_does_not_start(redis_url: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    command = [sys.executable, "-m", "stoker", "worker", "stoker.apps.command:app", "--port", "0", "--redis-url", redis_url]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "STOKER_COMMAND_ALLOW is not set: list the programs" in ended.stderr


def is_gone(pid: int) -> bool:
    """No process has this number, or only one that nobody has waited for yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


async def is_cancelled(task_id: str) -> bool:
    return (await app.client.status("default", task_id)).state is TaskState.CANCELLED
