"""A client of Redis that answers at once: each call is a blocking round trip, and no event loop is needed.

The engine's own code runs on it unchanged. Histories by the thousand are made of calls that take 0.1 ms.
"""

import socket
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import hiredis
from redis import ResponseError
from redis.asyncio import Redis

from stoker.redis.client import Routed
from stoker.redis.replies import ErrorReply, code

T = TypeVar("T")
Command = Iterable[Any]


def done(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never has to wait, because all it awaits is a `Straight`."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError(f"{work} waited for something else than Redis")


class Straight(Redis):
    """redis-py's asynchronous client, with its connections taken out."""

    follows_slots = False
    old = False

    def __init__(self, port: int) -> None:
        super().__init__(protocol=2)
        self.port = port
        self._socket: socket.socket | None = None
        self.unknown: list[bool] = []
        """Of the last calls that went together: which scripts the server did not know, so that they ran after the others."""
        self.connect()

    def connect(self) -> None:
        """Connect, or connect again after a restart of the server, when it has read what it had."""
        self.disconnect()
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader(replyError=ErrorReply)
        while code(self.exchange([("PING",)])[0]) == "LOADING":
            time.sleep(0.005)

    def disconnect(self) -> None:
        if self._socket:
            self._socket.close()

    async def round_trip(self, commands: Sequence[Routed]) -> list[Any]:
        """As the engine sends its scripts."""
        replies = self.exchange([each.command for each in commands])
        if len(replies) > 1:
            self.unknown = [code(reply) == "NOSCRIPT" for reply in replies]
        return replies

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        return await self.round_trip(list(commands))

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        return await self.round_trip(commands)

    async def everywhere(self, *command: Any) -> list[Any]:
        return await self.round_trip([Routed("", command)])

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send these and read their replies; errors are among them, not raised."""
        self.write(b"".join(hiredis.pack_command(_known(command)) for command in commands))
        return [self.read() for _ in commands]

    def write(self, data: bytes) -> None:
        assert self._socket
        self._socket.sendall(data)

    def read(self) -> Any:
        """The next reply, which may be an error."""
        assert self._socket
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the server is gone")
            self._reader.feed(data)
        return reply

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        [reply] = self.exchange([args])
        if isinstance(reply, ErrorReply):
            raise ResponseError(str(reply))
        options.pop("keys", None)
        callback = self.response_callbacks.get(args[0])
        return callback(reply, **options) if callback else reply


def _known(command: Command) -> tuple[Any, ...]:
    return tuple(part if isinstance(part, str | bytes | int | float) else str(part) for part in command)
