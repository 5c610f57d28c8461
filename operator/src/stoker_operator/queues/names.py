"""Names: look up host names without a queue that all tenants share.

asyncio looks up names in its default executor, six threads on two cores. A lookup cannot be cancelled, so six names of one slow
resolver would leave the names of every other Redis, and of the API server, waiting behind them. Here every lookup has its own
thread, a Redis may have a few at a time, and a name that is being looked up is not looked up again. A Redis whose lookups take long
shares a few threads with all others of that kind, however many they are.
"""

import asyncio
import contextlib
import socket
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from stoker_operator.allowed_redis import AllowedRedis

AT_ONCE = 2
"""Lookups of one Redis that may be under way."""
MOST = 512
"""Lookups of all that may be under way, which is as many threads."""
RESERVED = 64
"""Of these, for the operator itself: the API server and its own Redis."""
SLOW = 64
"""Lookups of all Redis servers whose last lookup took more than `PATIENCE`."""
PATIENCE = 2.0
"""Seconds."""
REMEMBERED = 10_000
"""Redis servers that are known to be slow; addresses to which allowed names led."""

_asker: ContextVar[str] = ContextVar("stoker.operator.asker", default="")
Addresses = list[tuple[Any, ...]]


@contextlib.contextmanager
def lookups_of(redis: str) -> Iterator[None]:
    """Lookups within the block, and of connections that it opens, count as those of this Redis; as the operator's own if empty."""
    token = _asker.set(redis)
    try:
        yield
    finally:
        _asker.reset(token)


def was_refused(redis: str) -> bool:
    """Whether the running loop refused to connect to where this Redis leads, since this was last asked."""
    loop = asyncio.get_running_loop()
    return isinstance(loop, NamesLoop) and loop.was_refused(redis)


class NamesLoop(asyncio.SelectorEventLoop):
    """An event loop with such lookups, of redis-py and of the Kubernetes client too. For a tenant it connects only where it is
    `allowed`, whatever a name, a sentinel or a node of a cluster leads to: the address is looked at when the connection is made.
    """

    def __init__(self, lookup: Callable[..., Addresses] = socket.getaddrinfo, allowed: AllowedRedis | None = None) -> None:
        super().__init__()
        self._lookup = lookup
        self._allowed = allowed or AllowedRedis()
        self._named: OrderedDict[tuple[str, str, int], None] = OrderedDict()  # where an allowed name of a Redis has led
        self._refused: set[str] = set()
        self._under_way: dict[tuple[object, ...], asyncio.Future[Addresses]] = {}
        self._askers: Counter[str] = Counter()
        self._slow: OrderedDict[str, None] = OrderedDict()

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
            if self._full(asker):
                raise OSError("too many names are being looked up: the resolver is slow")
            self._under_way[key] = self._start(key, wanted)
        found = await asyncio.shield(self._under_way[key])
        if asker and self._allowed.names(str(host), int(port or 0)):
            for *_, (address, at, *_) in found:
                self._named[asker, str(address), int(at)] = None
                self._named.move_to_end((asker, str(address), int(at)))
            while len(self._named) > REMEMBERED:
                self._named.popitem(last=False)
        return found

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Raises OSError for a Redis that leads where the operator may not connect to for a tenant."""
        asker, host, port = _asker.get(), str(address[0]), int(address[1])
        if asker and not self._allowed.admits(host, port, named=(asker, host, port) in self._named):
            if len(self._refused) >= REMEMBERED:
                self._refused.clear()
            self._refused.add(asker)
            raise OSError("an address that is not allowed")
        await super().sock_connect(sock, address)

    def was_refused(self, asker: str) -> bool:
        """Whether a connection of this Redis was refused since this was last asked."""
        refused = asker in self._refused
        self._refused.discard(asker)
        return refused

    def _full(self, asker: str) -> bool:
        if not asker:
            return len(self._under_way) >= MOST
        if self._askers[asker] >= AT_ONCE or len(self._under_way) >= MOST - RESERVED:
            return True
        return asker in self._slow and sum(count for each, count in self._askers.items() if each in self._slow) >= SLOW

    def _is_slow(self, asker: str) -> None:
        if asker:
            self._slow[asker] = None
            self._slow.move_to_end(asker)
            if len(self._slow) > REMEMBERED:
                self._slow.popitem(last=False)

    def _start(self, key: tuple[object, ...], wanted: tuple[Any, ...]) -> "asyncio.Future[Addresses]":
        found: asyncio.Future[Addresses] = self.create_future()
        asker = str(key[0])
        late = self.call_later(PATIENCE, self._is_slow, asker)

        def ended(result: Addresses | Exception) -> None:
            if self.time() < late.when():
                self._slow.pop(asker, None)
            late.cancel()
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
