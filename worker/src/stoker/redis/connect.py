"""connect(): the RedisClient for a URL, whether one server, the master behind sentinels, or a cluster."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stoker.redis.client import RedisClient
from stoker.redis.connector import Connector
from stoker.redis.reply_limit import ReplyLimit
from stoker.redis.single import SingleServer
from stoker.redis.url import REDIS_PORT, ClusterUrl, Host, Options, SentinelUrl, read

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 10.0

T = TypeVar("T")


def connect(url: str, *, max_connections: int = 64, limit: ReplyLimit | None = None, foreign: bool = False) -> RedisClient:
    """A client for the Redis at this URL; `redis/url.py` lists the schemes. Nothing is sent until its first call.

    Replies beyond `limit` cut the connection; by default that is wide. A `foreign` URL comes from a tenant, see `read`: its
    timeouts and its number of connections are at most the defaults.

    It never retries: only the caller knows whether a call may run twice. Raises Invalid for a malformed URL.
    """
    address, limit = read(url, foreign=foreign), limit or ReplyLimit()
    defaults: Options = {
        "max_connections": max_connections,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": ANSWER_TIMEOUT,
    }

    def bounded(options: Options) -> Options:
        most = {name: min(options.get(name, value), value) for name, value in defaults.items()}
        return defaults | options | (most if foreign else {})

    # Imported here: redis-py takes 12 MB, which a worker on one server saves.
    if isinstance(address, ClusterUrl):
        from stoker.redis.cluster import Cluster

        return Cluster(address.hosts, bounded(address.options), limit)
    connector = Connector(bounded(address.options), limit)
    if isinstance(address, SentinelUrl):
        from stoker.redis.sentinel import Sentinels

        sentinels = Sentinels(address.name, address.sentinels, bounded(address.sentinel_options), limit)
        return SingleServer(connector, sentinels.master)
    fixed = (address.options.get("host", "localhost"), address.options.get("port", REDIS_PORT))

    async def find() -> Host:
        return fixed

    return SingleServer(connector, find)


class ThreadClient:
    """A client with its own event loop, for a thread that has none. Not thread-safe."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url, max_connections=2)
        self._runner = asyncio.Runner()

    def run(self, work: Callable[[RedisClient], Coroutine[Any, Any, T]]) -> T:
        """Run work(client) to its end."""
        return self._runner.run(work(self._redis))

    def close(self) -> None:
        """Close the connections."""
        with self._runner, contextlib.suppress(OSError):
            self._runner.run(self._redis.aclose())
