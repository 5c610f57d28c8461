"""Servers that harm their clients, each in its own process: `python -m tests.hostile_redis KIND` prints its port and serves."""

import asyncio
import contextlib
import itertools
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from hiredis import Reader

from tests.strange_redis import resp

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ROOT = Path(__file__).parents[1]
MEGABYTE = 1 << 20


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads all, and never answers. Over TLS: the handshake stalls."""
    while await reader.read(MEGABYTE):
        pass


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Does not even read."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one byte a second: the beginning of a text."""
    writer.write(b"+PONG\r\n")
    for byte in itertools.chain(b"$1000000\r\n", itertools.repeat(ord("x"))):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1.0)


async def huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers gigabytes to each command, in texts that are each below the limit."""
    await _each(reader, writer, itertools.repeat(resp(b"x" * (15 * MEGABYTE))))


async def elements(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a list of as many small elements as the limit lets through."""
    stats = [3, *[0] * 13, b"", [], 0, 1_700_000_000_000]
    await _each(reader, writer, itertools.repeat(resp([*stats, *[b"name", b"7"] * 100_000])))


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers once, and resets the connection."""
    await reader.read(MEGABYTE)
    writer.write(b"+PONG\r\n")
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


KINDS: dict[str, Serve] = {each.__name__: each for each in (silent, deaf, drip, huge, elements, reset)}


async def _each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Iterator[bytes]) -> None:
    commands = Reader()
    greeted = False
    while chunk := await reader.read(65536):
        commands.feed(chunk)
        while commands.gets() is not False:
            writer.write(next(answers) if greeted else b"+PONG\r\n")
            greeted = True
            await writer.drain()


async def _serve(serve: Serve) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=2000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def hostile_redis(kind: str) -> Iterator[str]:
    """`host:port` of one for the length of the block."""
    command = [sys.executable, "-m", "tests.hostile_redis", kind]
    with tempfile.TemporaryFile() as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT) as running:
        try:
            assert running.stdout
            yield f"127.0.0.1:{int(running.stdout.readline())}"
        finally:
            running.kill()


@contextlib.contextmanager
def blackhole() -> Iterator[str]:
    """`host:port` where a connection is never made: its queue of connections is full, so the kernel drops each SYN."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield "{}:{}".format(*listener.getsockname())


if __name__ == "__main__":
    asyncio.run(_serve(KINDS[sys.argv[1]]))
