"""Connections to Redis, and the one place where its errors become ours."""

import contextlib
from collections.abc import Iterator

from redis import Redis as BlockingRedis
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from stoker.errors import Invalid, RedisFull, RedisRefused, RedisUnavailable

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 10.0
_SCHEMES = ("redis://", "rediss://", "unix://")


def connect(url: str, *, max_connections: int = 64) -> Redis:
    """An asyncio client. Nothing is sent until its first call. Raises Invalid for a URL it cannot read.

    It never retries by itself: only the caller knows whether its call may run twice.
    """
    with _readable(url):
        return Redis.from_url(
            url,
            max_connections=max_connections,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=ANSWER_TIMEOUT,
            health_check_interval=30,
            retry=AsyncRetry(NoBackoff(), 0),
        )


def connect_blocking(url: str) -> BlockingRedis:
    """The same for a thread of its own: the heartbeat."""
    with _readable(url):
        return BlockingRedis.from_url(
            url, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=ANSWER_TIMEOUT, retry=Retry(NoBackoff(), 1)
        )


@contextlib.contextmanager
def _readable(url: str) -> Iterator[None]:
    if not url.startswith(_SCHEMES):
        raise Invalid(f"bad Redis URL {without_password(url)!r}: it must start with one of {', '.join(_SCHEMES)}")
    try:
        yield
    except ValueError as error:
        raise Invalid(f"bad Redis URL {without_password(url)!r}: {error}") from error


def without_password(url: str) -> str:
    """The URL as it may be shown in logs and messages."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{'***' + at if credentials else ''}{host or rest}"


@contextlib.contextmanager
def errors_mapped() -> Iterator[None]:
    """Turn what redis-py raises into `RedisUnavailable` (try again) or `RedisRefused` (mend it first)."""
    try:
        yield
    except exceptions.RedisError as error:
        raise mapped(error) from error
    except (OSError, TimeoutError) as error:
        raise RedisUnavailable(f"Redis does not answer: {error}") from error


def mapped(error: Exception) -> RedisUnavailable | RedisRefused:
    """Our error for one of redis-py's."""
    match error:
        case exceptions.AuthenticationError() | exceptions.AuthorizationError() | exceptions.NoPermissionError():
            return RedisRefused(f"Redis refuses these credentials: {error}")
        case exceptions.ReadOnlyError():
            return RedisUnavailable(f"Redis is a read-only replica, a failover may be under way: {error}")
        case exceptions.OutOfMemoryError():
            return RedisFull(f"Redis is full; raise its maxmemory or let the queue drain: {error}")
        case exceptions.ConnectionError() | exceptions.TimeoutError() | exceptions.TryAgainError():
            return RedisUnavailable(f"Redis does not answer: {error}")
        case _:
            return RedisRefused(f"Redis refused the call: {error}")
