"""An example, run as its README says: the commands that stand there, in the example's folder, on a server of the test's own."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.redis_servers import Server, free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN = 60.0
ENDS_WITHIN = 30.0
A_COMMAND_TAKES = 90.0
_COMMAND = re.compile(r"^ {4}(?P<command>\S.*?)(?: {2,}[a-z].*)?$", re.MULTILINE)
"""An indented line; what stands aside behind wide blanks is prose."""


class Running:
    """A command of the README that stays, as in a terminal of its own."""

    def __init__(self, command: str, log: Path, folder: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=folder, env=environment, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL
            )

    async def says(self, pattern: str) -> str:
        """What the first group of the pattern finds in its output."""
        await until(lambda: self.process.poll() is not None or re.search(pattern, self.log.read_text()), STARTS_WITHIN)
        found = re.search(pattern, self.log.read_text())
        assert found, f"it ended with {self.process.poll()}"
        return found[1]

    def stop(self) -> None:
        """As Ctrl-C does. Nothing that it has started outlives this."""
        family = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.terminate()
        try:
            self.process.wait(ENDS_WITHIN)
        finally:
            self.process.kill()
            for child in family:
                if child.is_running():
                    child.kill()


class Stage:
    """One example. `places` says what stands for the addresses and files that its README names."""

    def __init__(self, example: str, server: Server, scratch: Path) -> None:
        self.folder = ROOT / "examples" / example
        self.places: dict[str, str] = {}
        self.gateway = f"http://127.0.0.1:{free_port()}"
        self._scratch = scratch
        self._running: list[Running] = []
        own = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
        self.environment = {
            **own,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "STOKER_REDIS_URL": server.url,
            "STOKER_DATA": str(scratch / "stoker"),
            "STOKER_PORT": self.gateway.rpartition(":")[2],
        }

    def command(self, begins: str) -> str:
        """The one command of the README that begins so, with this stage's places in it."""
        commands = [found["command"] for found in _COMMAND.finditer((self.folder / "README.md").read_text())]
        fitting = [command for command in commands if command.startswith(begins)]
        assert len(fitting) == 1, f"the README has {len(fitting)} commands that begin with {begins!r}, it has {commands}"
        command = fitting[0]
        for place, here in self.places.items():
            command = command.replace(place, here)
        return command

    def start(self, begins: str) -> Running:
        """Begin a command that stays."""
        running = Running(self.command(begins), self._scratch / f"log.{len(self._running)}", self.folder, self.environment)
        self._running.append(running)
        return running

    async def up(self) -> None:
        """`stoker up`: the queue, with as many workers as it needs, and the gateway."""
        await self.start("stoker up").says(r"(redis redis://\S+)")

    async def run(self, begins: str, *more: str) -> str:
        """What a command says, with further arguments. It must succeed."""
        return await self.shell(" ".join([self.command(begins), *more]))

    async def shell(self, command: str) -> str:
        """The same for any command."""
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-c", command),
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(A_COMMAND_TAKES):
            out, errors = await shell.communicate()
        assert shell.returncode == 0, f"{command} ended with {shell.returncode}:\n{out.decode()}{errors.decode()}"
        return out.decode()

    @property
    def processes(self) -> list[psutil.Process]:
        """Whatever was started by what runs."""
        return [child for each in self._running for child in psutil.Process(each.process.pid).children(recursive=True)]

    def close(self) -> None:
        """End what runs, the last that was started first."""
        with ExitStack() as stack:
            for running in self._running:
                stack.callback(running.stop)

    @property
    def said(self) -> str:
        """What all that runs has said, and the workers' logs: for whoever asks why."""
        logs = [*(running.log for running in self._running), *(self._scratch / "stoker" / "logs").glob("*.log")]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs if log.exists())


@contextmanager
def staged(example: str, server: Server, scratch: Path) -> Iterator[Stage]:
    """An example that leaves nothing behind."""
    stage = Stage(example, server, scratch)
    try:
        yield stage
    except BaseException as error:
        error.add_note(stage.said)
        raise
    finally:
        stage.close()


def needed(program: str) -> str:
    """Its path. Raises RuntimeError that says what to install: a test that cannot run has not passed."""
    if found := shutil.which(program):
        return found
    raise RuntimeError(f"this example needs {program} on PATH: tests/prepare gets it on Debian")
