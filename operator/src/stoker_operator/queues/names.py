"""Names: look up host names without a queue that all tenants share.

asyncio looks up names in its default executor, six threads on two cores. A lookup cannot be cancelled, so six names of one slow
resolver would leave the names of every other Redis, and of the API server, waiting behind them. Here every lookup has its own
thread, a Redis may have a few at a time, and a name that is being looked up is not looked up again.
"""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

AT_ONCE = 2
"""Lookups of one Redis that may be under way."""
MOST = 256
"""Lookups of all that may be under way, which is as many threads."""

_asker: ContextVar[str] = ContextVar("stoker.operator.asker", default="")
Addresses = list[tuple[Any, ...]]


@contextlib.contextmanager
def lookups_of(redis: str) -> Iterator[None]:
    """Lookups within the block, and of connections that it opens, count as those of this Redis."""
    token = _asker.set(redis)
    try:
        yield
    finally:
        _asker.reset(token)


class NamesLoop(asyncio.SelectorEventLoop):
    """An event loop with such lookups, of redis-py and of the Kubernetes client too."""

    def __init__(self, lookup: Callable[..., Addresses] = socket.getaddrinfo) -> None:
        super().__init__()
        self._lookup = lookup
        self._under_way: dict[tuple[object, ...], asyncio.Future[Addresses]] = {}
        self._askers: Counter[str] = Counter()

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  asyncio's name for it
        proto: int = 0,
        flags: int = 0,
    ) -> Addresses:
        """The addresses. Raises OSError where too many lookups are under way. Its caller bounds the time."""
        wanted = (host, port, family, type, proto, flags)
        asker = _asker.get()
        key = (asker, *wanted)
        if key not in self._under_way:
            if self._askers[asker] >= (AT_ONCE if asker else MOST) or len(self._under_way) >= MOST:
                raise OSError("too many names are being looked up: the resolver is slow")
            self._under_way[key] = self._start(key, wanted)
        return await asyncio.shield(self._under_way[key])

    def _start(self, key: tuple[object, ...], wanted: tuple[Any, ...]) -> "asyncio.Future[Addresses]":
        found: asyncio.Future[Addresses] = self.create_future()
        asker = str(key[0])

        def ended(result: Addresses | Exception) -> None:
            del self._under_way[key]
            self._askers[asker] -= 1
            if not self._askers[asker]:
                del self._askers[asker]
            if isinstance(result, Exception):
                found.set_exception(result)
                found.exception()  # retrieved: its caller may have left
            else:
                found.set_result(result)

        def work() -> None:
            result: Addresses | Exception
            try:
                result = self._lookup(*wanted)
            except Exception as error:  # UnicodeError for a name that is none
                result = error if isinstance(error, OSError) else OSError("no host name")
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.call_soon_threadsafe(ended, result)

        threading.Thread(target=work, name="lookup", daemon=True).start()
        self._askers[asker] += 1
        return found
