"""Blocking client of the test server, for code that may be called within an event loop: moving the clock."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hiredis import Reader, pack_command

from stoker.redis.replies import ErrorReply
from stoker.redis.wire import Command

TIMEOUT = 10.0
_CHUNK = 65536


class BlockingClient:
    """Connects with the first command, and again after `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def ask(self, *commands: Command) -> list[Any]:
        """Run commands and return their replies. Raises ErrorReply for the first that failed, OSError without an answer."""
        try:
            replies = list(self._exchange(commands))
        except OSError:
            self.close()
            raise
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise reply
        return replies

    def close(self) -> None:
        """Close the connection."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _exchange(self, commands: tuple[Command, ...]) -> Iterator[Any]:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(TIMEOUT)
            self._socket.connect(str(self._path))
            self._reader = Reader(replyError=ErrorReply)
        self._socket.sendall(b"".join(pack_command(each) for each in commands))
        for _ in commands:
            while (reply := self._reader.gets()) is False:
                if not (data := self._socket.recv(_CHUNK)):
                    raise ConnectionError("the server is gone")
                self._reader.feed(data)
            yield reply
