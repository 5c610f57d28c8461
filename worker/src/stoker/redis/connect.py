"""Connections to every kind of Redis: one server, the master behind sentinels, a cluster.

The rest of the engine sees a RedisClient and does not ask which kind it is.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stoker.redis import url as address
from stoker.redis.client import RedisClient
from stoker.redis.connector import Connector
from stoker.redis.single import SingleServer
from stoker.redis.url import REDIS_PORT, ClusterUrl, Host, Options, SentinelUrl

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 10.0

T = TypeVar("T")


def connect(url: str, *, max_connections: int = 64) -> RedisClient:
    """A client for the Redis at this URL; see `address` for what it may be. Nothing is sent until its first call.

    It never retries by itself: only the caller knows whether its call may run twice. Raises Invalid for a URL it cannot read.
    """
    place = address.read(url)
    basis: Options = {
        "max_connections": max_connections,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": ANSWER_TIMEOUT,
    }
    # redis-py takes 12 MB: a worker on one server has better use for them.
    if isinstance(place, ClusterUrl):
        from stoker.redis.cluster import Cluster

        return Cluster(place.hosts, basis | place.options)
    access = Connector(basis | place.options)
    if isinstance(place, SentinelUrl):
        from stoker.redis.sentinel import Sentinels

        return SingleServer(access, Sentinels(place.name, place.sentinels, basis | place.sentinel_options).master)
    fixed = (place.options.get("host", "localhost"), place.options.get("port", REDIS_PORT))

    async def find() -> Host:
        return fixed

    return SingleServer(access, find)


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
        with self._runner, contextlib.suppress(OSError):
            self._runner.run(self._redis.aclose())
