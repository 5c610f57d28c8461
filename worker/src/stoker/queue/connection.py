"""Connections to every kind of Redis: one server, the master behind sentinels, a cluster.

The rest of the engine sees one client with redis-py's methods and does not ask which kind it is.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisClusterException, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from stoker.errors import Invalid, RedisRefused
from stoker.queue import address
from stoker.queue.address import Master, Nodes, Options, without_password
from stoker.queue.cluster import Cluster
from stoker.queue.failures import code_of, mapped
from stoker.queue.server import Server
from stoker.queue.wire import NO_MASTER

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 10.0
_NOT_LET_IN = (AuthenticationError, NoPermissionError)

RedisClient = Server | Cluster
T = TypeVar("T")

__all__ = ["RedisClient", "ThreadClient", "connect", "errors_mapped", "mapped", "without_password"]


def connect(url: str, *, max_connections: int = 64) -> RedisClient:
    """A client for the Redis at this URL; see `address` for what it may be. Nothing is sent until its first call.

    It never retries by itself: only the caller knows whether its call may run twice. Raises Invalid for a URL it cannot read.
    """
    place = address.read(url)
    options: Options = {
        "max_connections": max_connections,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": ANSWER_TIMEOUT,
        "health_check_interval": 30,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "retry": Retry(NoBackoff(), 0),
        **place.options,
    }
    try:
        if isinstance(place, Nodes):
            return Cluster(startup_nodes=[ClusterNode(*host) for host in place.hosts], **options)
        return Server(_master_pool(place, options) if isinstance(place, Master) else _pool(options))
    except TypeError as error:
        unknown = str(error).rpartition(" ")[2]
        raise Invalid(f"bad Redis URL {without_password(url)!r}: {unknown} is not an option of a connection") from error


class ThreadClient:
    """The same client for a thread that has no event loop: it brings one. One thread at a time may use it."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url, max_connections=2)
        self._runner = asyncio.Runner()

    def run(self, work: Callable[[RedisClient], Coroutine[Any, Any, T]]) -> T:
        """Do this with the client and wait for its end."""
        return self._runner.run(work(self._redis))

    def close(self) -> None:
        """Give the connections back."""
        with self._runner, contextlib.suppress(RedisError, OSError):
            self._runner.run(self._redis.aclose())


@contextlib.contextmanager
def errors_mapped() -> Iterator[None]:
    """Turn what redis-py raises into `RedisUnavailable` (try again) or `RedisRefused` (mend it first)."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
        raise mapped(error) from error


class _LeavesReplicas:
    """A connection whose server is no master any more is dropped, so that the next one finds the new master behind the name."""

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)  # type: ignore[misc]
        except ResponseError as error:
            if code_of(error) in NO_MASTER:
                self.mark_for_reconnect()  # type: ignore[attr-defined]
            raise


class _TcpConnection(_LeavesReplicas, Connection):
    pass


class _TlsConnection(_LeavesReplicas, SSLConnection):
    pass


class _SocketConnection(_LeavesReplicas, UnixDomainSocketConnection):
    pass


class _MasterConnection(_LeavesReplicas, SentinelManagedConnection):
    pass


class _MasterTlsConnection(_LeavesReplicas, SentinelManagedSSLConnection):
    pass


def _pool(options: Options) -> ConnectionPool:
    tls = options.pop("ssl", False)
    if "path" in options:
        del options["maint_notifications_config"]
    kind = _SocketConnection if "path" in options else _TlsConnection if tls else _TcpConnection
    # Callers beyond the limit wait for their turn: hundreds of requests that enqueue at once are no error.
    return BlockingConnectionPool(**{**options, "connection_class": kind, "timeout": ANSWER_TIMEOUT})


def _master_pool(place: Master, options: Options) -> ConnectionPool:
    timeouts = {name: value for name, value in options.items() if name.startswith("socket_") or name == "retry"}
    sentinels: Any = _Sentinels(place.sentinels, sentinel_kwargs={**timeouts, **place.sentinel_options})  # type: ignore[no-untyped-call]
    kind = _MasterTlsConnection if options.pop("ssl", False) else _MasterConnection
    pool: ConnectionPool = _MasterPool(place.name, sentinels, **{**options, "connection_class": kind})  # type: ignore[no-untyped-call]
    return pool


class _MasterPool(SentinelConnectionPool):
    """Connections to whichever server is the master."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


class _Sentinels(Sentinel):
    """Sentinels that say why they name no master, and of which none is forgotten when many ask at once."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        troubles: list[RedisError] = []
        known: set[str] = set()
        for sentinel in tuple(self.sentinels):
            try:
                masters = cast(dict[str, Any], await sentinel.sentinel_masters())
            except RedisError as error:
                troubles.append(error)
                continue
            known.update(masters)
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):
                self.sentinels.sort(key=lambda each: each is not sentinel)
                return state["ip"], state["port"]
        raise self._without_master(service_name, known, troubles)

    def _without_master(self, name: str, known: set[str], troubles: list[RedisError]) -> Exception:
        reasons = "; ".join(dict.fromkeys(map(str, troubles))) or "it is down, and no other has taken over yet"
        if len(troubles) < len(self.sentinels) and name not in known:
            return RedisRefused(f"the sentinels know no master {name!r}, only {', '.join(sorted(known)) or 'none'}: mend the URL")
        if len(troubles) == len(self.sentinels) and any(isinstance(each, _NOT_LET_IN) for each in troubles):
            advice = "give sentinel_username and sentinel_password in the URL's query"
            return RedisRefused(f"the sentinels refuse these credentials: {advice} ({reasons})")
        return MasterNotFoundError(f"the sentinels name no master {name!r}: {reasons}")
