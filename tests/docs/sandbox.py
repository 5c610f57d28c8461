"""A page's sandbox: a server and a folder for it alone, workers and a gateway on the side, and a shell."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from stoker import Stoker
from stoker.app.app import application_of
from tests.docs.commands import check, commands
from tests.docs.pages import ROOT, Block
from tests.redis_servers import Server
from tests.waiting import until

LIMIT = 60.0
"""Seconds that one block may take, and a program on the side until it is there: many times what it takes on a machine with nothing
else to do, and less than a test has."""
STAYS = re.compile(r"([A-Z_]+=\S* )*stoker (worker|up|gateway|top)\b(?!.* --(check|help))")
ELSEWHERE = ("docker", "helm", "kubectl", "make", "pip")
"""Programs that act on a cluster or on the whole machine: what they are told is checked, and that is all."""
READY = ("worker started", "gateway listening")
_WRAPPED = """set -euo pipefail
redis-cli() {{ command redis-cli -e -p {redis} "$@"; }}
curl() {{ command curl -sS --fail-with-body "${{@//localhost:8080/127.0.0.1:{gateway}}}"; }}
{elsewhere}
"""


class Program:
    """One that was started in a process group of its own, and what it says."""

    def __init__(self, command: list[str], log: Path, folder: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("ab") as sink:  # no pipe: nobody reads it while the program runs, and what outlives it would hold it open
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    async def ready(self, limit: float) -> str:
        """The line in which it says that it can be used. Raises AssertionError with what it said instead."""
        await until(lambda: self._line() or self.exit_code is not None, limit)
        assert self._line(), f"{self._process.args!r} ended with {self.exit_code}, and said: {self.said}"
        return self._line()

    def kill(self) -> None:
        """End it now, with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _line(self) -> str:
        return next((line for line in self.said.splitlines() if any(word in line for word in READY)), "")


class Sandbox:
    """Enter it, and its folder can be imported from; leave it, and all that was started is gone."""

    def __init__(self, folder: Path, server: Server, limit: float = LIMIT) -> None:
        self.folder = folder
        self.server = server
        self.limit = limit
        self._programs: list[Program] = []
        self._staff: dict[tuple[str, str], Program] = {}
        self._gateway: Program | None = None
        self._modules: dict[str, ModuleType] = {}
        self._outdated: list[Stoker] = []

    def __enter__(self) -> Self:
        sys.path.insert(0, str(self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for program in self._programs:
            program.kill()
        sys.path.remove(str(self.folder))
        self._forget()
        if error:
            for program in self._programs:
                error.add_note(f"{program.log.name} said:\n{program.said[-4000:]}")

    @property
    def environment(self) -> dict[str, str]:
        """What all that is started has."""
        path = os.pathsep.join([str(self.folder), *(each for each in sys.path if each.startswith(f"{ROOT}/"))])
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
        return {**own, "PYTHONPATH": path, "PATH": programs, "STOKER_REDIS_URL": self.server.url, "STOKER_PORT": "0"}

    def write(self, name: str, text: str) -> None:
        """A file of the page. One that changes is imported anew, by new workers."""
        path = self.folder / name
        if path.exists():
            self._forget()
            for worker in self._staff.values():
                worker.kill()
            self._staff.clear()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def module(self, name: str) -> ModuleType:
        """Import a file of the page."""
        if name not in self._modules:
            importlib.invalidate_caches()
            self._modules[name] = importlib.import_module(name)
        return self._modules[name]

    @property
    def applications(self) -> dict[str, Stoker]:
        """All that the page's modules have, by where they are."""
        found = {f"{name}:{key}": value for name, module in self._modules.items() for key, value in vars(module).items()}
        apps = {path: value for path, value in found.items() if isinstance(value, Stoker)}
        return dict({id(app): (path, app) for path, app in apps.items()}.values())

    async def work(self) -> None:
        """Workers that have started, for every queue that the page's tasks are in.

        A page waits for its results as a reader would, some seconds: a worker that is still on its way has no part in them.
        """
        wanted = {
            (path, declaration.policy.queue)
            for path, app in self.applications.items()
            for declaration in application_of(app).declarations.values()
        }
        for path, queue in sorted(wanted - self._staff.keys()):
            self._staff[path, queue] = self._start("stoker", "worker", path, "--queue", queue)
        for worker in self._staff.values():
            await worker.ready(self.limit)

    async def shell(self, block: Block) -> str:
        """What the block says when it is run. Raises AssertionError unless it succeeds in time."""
        for words in commands(block.text):
            if words[0] in ELSEWHERE:
                check(words, self.folder)
        if STAYS.match(block.text):
            await self._start("bash", "-c", block.text).ready(self.limit)
            return ""
        elsewhere = "\n".join(f"{program}() {{ :; }}" for program in ELSEWHERE)
        gateway = await self.gateway() if "localhost:8080" in block.text else 0
        script = _WRAPPED.format(redis=self.server.port, gateway=gateway, elsewhere=elsewhere) + block.text
        shell = self._start("bash", "-c", script)
        try:
            await until(lambda: shell.exit_code is not None, self.limit)
        except AssertionError:
            raise AssertionError(f"{block.where}: not done within {self.limit:g} s; it said: {shell.said}") from None
        finally:
            shell.kill()
        assert shell.exit_code == 0, f"{block.where}: {shell.said}"
        return shell.said

    async def gateway(self) -> int:
        """The port of a gateway."""
        if self._gateway is None:  # it picks a port itself: one that was free before may not be so when it comes
            self._gateway = self._start("stoker", "gateway", "--port", "0", "--log-format", "json")
        return int(json.loads(await self._gateway.ready(self.limit))["url"].rpartition(":")[2])

    async def close(self) -> None:
        """Give back what the page's applications have opened on this loop, in files that it has changed since as well."""
        for app in [*self._outdated, *self.applications.values()]:
            await app.close()

    def _start(self, *command: str) -> Program:
        log = self.folder / f"log.{len(self._programs)}"
        self._programs.append(Program(list(command), log, self.folder, self.environment))
        return self._programs[-1]

    def _forget(self) -> None:
        self._outdated += self.applications.values()
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "") or "").startswith(str(self.folder)):
                del sys.modules[name]
        self._modules.clear()
