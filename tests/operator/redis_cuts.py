"""A wire between an operator and its Redis that knows which writes pass it, and may be cut at any of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from stoker.queue.scripts import load
from tests.redis_servers import Server

WRITES = ("claim", "release_claim", "reap_worker", "start_runs")
SIGNS = {load(name).sha.encode(): name for name in WRITES} | {b"SETUSER": "setuser"}


class Cut(Exception):
    """Cut the connection."""


async def _nothing(*_: object) -> None:
    return None


class RedisCuts:
    """`before` and `after` are called for each write with its name and its number among those of the name, from 1."""

    def __init__(self, server: Server) -> None:
        self.calls: list[str] = []
        self.before: Callable[[str, int], Awaitable[None]] = _nothing
        self.after: Callable[[str, int], Awaitable[None]] = _nothing
        self.away = False
        self._server = server
        self._counts: Counter[str] = Counter()
        self._talks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own
        self._talks.add(own)
        there, back = await asyncio.open_connection("127.0.0.1", self._server.port)
        answers = asyncio.create_task(self._answers(there, writer))
        try:
            while request := await reader.read(1 << 20):
                if self.away:
                    break
                written = [(name, self._count(name)) for sign, name in SIGNS.items() if sign in request]
                for each in written:
                    await self.before(*each)
                back.write(request)
                if written:
                    answers.cancel()
                    await asyncio.wait([answers])
                    answer = await there.read(1 << 20)
                    for each in written:
                        await self.after(*each)
                    writer.write(answer)
                    answers = asyncio.create_task(self._answers(there, writer))
        except (ConnectionError, asyncio.CancelledError, Cut):
            pass
        finally:
            answers.cancel()
            self._talks.discard(own)
            for each in (writer, back):
                each.transport.abort()
                with suppress(ConnectionError, asyncio.CancelledError):
                    await each.wait_closed()

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while answer := await there.read(1 << 20):
                writer.write(answer)

    def _count(self, name: str) -> int:
        self._counts[name] += 1
        self.calls.append(name)
        return self._counts[name]

    def cut(self) -> None:
        """Every connection, and each that begins, until `away` is False again."""
        self.away = True
        for talk in self._talks:
            talk.cancel()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["RedisCuts"]:
        listener = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"
        try:
            yield self
        finally:
            listener.close()
            for talk in self._talks:
                talk.cancel()
            await asyncio.gather(*self._talks, return_exceptions=True)
