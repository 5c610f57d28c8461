"""A server whose clock the test holds: it stands still, and moves ahead and back by hours when told to.

A still clock makes every history exact: what the server will write is known to the millisecond, and a seed
gives the same history each time.
"""

import functools
import mmap
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.proof.straight import Straight
from tests.redis_servers import Kind, Server

SOURCE = Path(__file__).parent / "clock" / "clock.c"
NEW_YEAR_2027 = 1_798_761_600_000
MEMORY = Path("/dev/shm")  # appendfsync always costs nothing there
PAGE = struct.Struct("=qq")


@functools.cache
def _shim() -> Path:
    """The shared library, built once a run. Raises CalledProcessError with the compiler's words."""
    folder = Path(tempfile.mkdtemp(prefix="stoker-clock-"))
    library = folder / "clock.so"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


class MovableClock:
    """The clock of one server, in whole milliseconds since 1970. It stands still until `run`."""

    def __init__(self, path: Path, now: int = NEW_YEAR_2027) -> None:
        path.write_bytes(PAGE.pack(now * 1000, 0))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), PAGE.size)
        self.environment = {**os.environ, "LD_PRELOAD": str(_shim()), "STOKER_CLOCK_PAGE": str(path)}

    @property
    def now(self) -> int:
        """Where it stands."""
        return int(PAGE.unpack(self._page[:])[0]) // 1000

    @now.setter
    def now(self, milliseconds: int) -> None:
        """Put it there, and see to it that the server has noticed: Valkey looks at it about once a millisecond."""
        if milliseconds != self.now:
            self._page[:] = PAGE.pack(milliseconds * 1000, 0)
            while self._server_time() != milliseconds:
                pass

    def _server_time(self) -> int:
        [(seconds, microseconds)] = self._client.exchange([("TIME",)])
        return int(seconds) * 1000 + int(microseconds) // 1000

    def run(self, ahead: int = 0) -> None:
        """Let it go on with real time, so far ahead of it (or behind)."""
        self._page[:] = PAGE.pack(0, ahead * 1000)

    def watch(self, client: Straight) -> None:
        """The client by which it sees that its server has noticed."""
        self._client = client

    def reconnect(self) -> None:
        """After a restart of the server."""
        self._client.connect()

    def close(self) -> None:
        self._page.close()


@contextmanager
def movable_server(kind: Kind = Kind.VALKEY_9, *, durable: bool = True) -> Iterator[tuple[Server, MovableClock]]:
    """A server and its clock. A durable one keeps every acknowledged write when it is killed."""
    with tempfile.TemporaryDirectory(prefix="stoker-proof-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        clock = MovableClock(Path(folder) / "clock")
        options = ("--appendonly", "yes", "--appendfsync", "always") if durable else ()
        server = Server("--dir", folder, *options, kind=kind, environment=clock.environment)
        server.start()
        client = Straight(server.port)
        clock.watch(client)
        try:
            yield server, clock
        finally:
            client.disconnect()
            server.stop()
            clock.close()
