"""Operators that start in a few milliseconds: forks of one process that has imported all of it. Each is a process to kill."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.operator.apiserver import ApiServer
from tests.redis_servers import free_port

_FORKER = """
import json, os, signal, sys
import stoker_operator.__main__ as operator

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects them
for line in sys.stdin:
    asked = json.loads(line)
    if pid := os.fork():
        print(pid, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(asked["environment"])
    log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["stoker-operator"]
    code = 0
    try:
        operator.main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)
"""


@dataclass
class Forked:
    """An operator process."""

    pid: int
    port: int
    log: Path

    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """At once, as the kernel does it. Returns when it is gone."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self.alive():
            assert time.monotonic() < deadline, f"operator {self.pid} is not gone"
            time.sleep(0.002)

    async def page(self, path: str) -> str:
        """What its HTTP server answers; nothing while it does not."""
        try:
            async with httpx.AsyncClient(timeout=2) as http:
                return (await http.get(f"http://127.0.0.1:{self.port}{path}")).text
        except httpx.TransportError:
            return ""

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class Forker:
    """Starts operators; `end` ends all of them."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _FORKER]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._started: list[Forked] = []

    def start(self, kubeconfig: str, redis_url: str, log: Path, **settings: str) -> Forked:
        """Returns at once; it is not ready yet."""
        port = free_port()
        environment = {
            "KUBECONFIG": kubeconfig,
            "STOKER_REDIS_URL": redis_url,
            "STOKER_TENANT_CREDENTIALS": "Generated",
            "STOKER_INTERVAL": "200ms",
            "STOKER_RESYNC": "10m",
            "STOKER_REDIS_TIMEOUT": "1s",
            "STOKER_HOST": "127.0.0.1",
            "STOKER_PORT": str(port),
            "STOKER_LOG_FORMAT": "json",
            **settings,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"environment": environment, "log": str(log)}) + "\n")
        self._process.stdin.flush()
        started = Forked(int(self._process.stdout.readline()), port, log)
        self._started.append(started)
        return started

    def end(self) -> None:
        for each in self._started:
            each.kill()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@contextlib.contextmanager
def forking() -> Iterator[Forker]:
    forker = Forker()
    try:
        yield forker
    finally:
        forker.end()


def elected(server: ApiServer, namespace: str, name: str, duration: str = "3s") -> dict[str, str]:
    """The settings of one of several candidates, which work in this namespace alone."""
    return {
        "STOKER_WATCH_NAMESPACES": namespace,
        "STOKER_CLUSTER_ID": "one",
        "STOKER_LEASE": "stoker-operator",
        "STOKER_LEASE_DURATION": duration,
        "POD_NAMESPACE": namespace,
        "POD_NAME": name,
    }
