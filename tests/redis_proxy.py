"""A wire between a client and its server that can be cut at the worst moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.redis_servers import Server


class Wire:
    """Passes everything on. Told to lose an answer, it lets the request arrive and breaks the connection instead of answering."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self.answers_to_lose = 0
        self.lost = 0

    @property
    def url(self) -> str:
        assert self._listener
        return f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"

    async def open(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._listener
        self._listener.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk
        self._talks.add(talk)
        there, back = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            while request := await reader.read(1 << 20):
                back.write(request)
                answer = await there.read(1 << 20)
                if self.answers_to_lose and b"EVAL" in request:
                    self.answers_to_lose -= 1
                    self.lost += 1
                    break
                writer.write(answer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._talks.discard(talk)
            for each in (writer, back):
                each.close()
                with suppress(ConnectionError, asyncio.CancelledError):
                    await each.wait_closed()


@asynccontextmanager
async def wire_to(server: Server) -> AsyncIterator[Wire]:
    """An open wire."""
    wire = Wire(server)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()
