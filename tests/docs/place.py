"""Where a page is tried out: a server and a folder of its own, workers and a gateway on the side, and a shell."""

import asyncio
import importlib
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from commands import check, commands
from pages import ROOT, Block

from patience import until
from servers import Server, free_port
from stoker import Stoker

SHELL_LIMIT = 30.0
_STAYS = re.compile(r"stoker (worker|up|gateway|top)\b(?!.* --(check|help))")
ELSEWHERE = ("docker", "helm", "kubectl", "make", "pip")
"""Programs that act on a cluster or on the whole machine: what they are told is checked, and that is all."""
_WRAPPED = """set -euo pipefail
redis-cli() {{ command redis-cli -e -p {redis} "$@"; }}
curl() {{ command curl -sS --fail-with-body "${{@//localhost:8080/127.0.0.1:{gateway}}}"; }}
{elsewhere}
"""


class Place:
    """Enter it, and its folder can be imported from; leave it, and all that was started is gone."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self._log = folder / "log"
        self._running: list[subprocess.Popen[bytes]] = []
        self._modules: dict[str, ModuleType] = {}
        self._worked = False

    def __enter__(self) -> Self:
        sys.path.insert(0, str(self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        sys.path.remove(str(self.folder))
        self._forget()
        if error and self._log.exists():
            error.add_note(f"what ran on the side said:\n{self._log.read_text()[-4000:]}")

    @property
    def environment(self) -> dict[str, str]:
        """What all that is started has."""
        path = os.pathsep.join([str(self.folder), *(each for each in sys.path if each.startswith(str(ROOT)))])
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
        return {**own, "PYTHONPATH": path, "PATH": programs, "STOKER_REDIS_URL": self.server.url, "STOKER_PORT": "0"}

    def write(self, name: str, text: str) -> None:
        """A file of the page. One that changes is imported anew, by new workers."""
        path = self.folder / name
        if path.exists():
            self._forget()
            self._worked = False
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

    def work(self) -> None:
        """A worker for every queue that the page's tasks are in, unless they run already."""
        if self._worked:
            return
        self._worked = True
        for path, app in self.applications.items():
            for queue in sorted({task.policy.queue for task in app.tasks.values()}):
                self._start("stoker", "worker", path, "--queue", queue, "--log-level", "warning")

    async def shell(self, block: Block) -> str:
        """What the block says when it is run. Raises AssertionError unless it succeeds."""
        for words in commands(block.text):
            if words[0] in ELSEWHERE:
                check(words, self.folder)
        if _STAYS.match(block.text):
            await self._stay(block.text)
            return ""
        elsewhere = "\n".join(f"{program}() {{ :; }}" for program in ELSEWHERE)
        gateway = await self.gateway() if "localhost:8080" in block.text else 0
        script = _WRAPPED.format(redis=self.server.port, gateway=gateway, elsewhere=elsewhere) + block.text
        shell = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            script,
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SHELL_LIMIT):
            said, _ = await shell.communicate()
        assert shell.returncode == 0, f"{block.where}: {said.decode()}"
        return said.decode()

    async def gateway(self) -> int:
        """The port of a gateway."""
        port = self._gateway_port
        await until(lambda: _listens(port), SHELL_LIMIT)
        return port

    @cached_property
    def _gateway_port(self) -> int:
        port = free_port()
        self._start("stoker", "gateway", "--port", str(port), "--log-level", "warning")
        return port

    async def _stay(self, text: str) -> None:
        [words] = commands(text)
        log = self.folder / f"log.{len(self._running)}"
        self._worked = True
        self._start(*words, log=log)
        await until(lambda: any(word in log.read_text() for word in ("worker started", "gateway listening")), SHELL_LIMIT)

    def _start(self, *command: str, log: Path | None = None) -> None:
        with (log or self._log).open("ab") as sink:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=sink, stderr=sink, start_new_session=True
            )
        self._running.append(process)

    def _forget(self) -> None:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "") or "").startswith(str(self.folder)):
                del sys.modules[name]
        self._modules.clear()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
