"""A server that answers every command with the same bytes, as a hostile or a wrong one does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from hiredis import Reader


@asynccontextmanager
async def strange_redis(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that answers each command with `answer`; with nothing, it closes the connection."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = Reader()
        try:
            while chunk := await reader.read(65536):
                commands.feed(chunk)
                while commands.gets() is not False:
                    writer.write(answer)
                    if not answer:
                        return
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for each in serving:
            each.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the next step of the loop


def resp(value: object) -> bytes:
    """A value in the Redis protocol: numbers, texts, lists, None."""
    match value:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case Sequence():
            return b"*%d\r\n%s" % (len(value), b"".join(map(resp, value)))
        case _:
            raise TypeError(value)
