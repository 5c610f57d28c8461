"""Options for redis-py and errors from it. Only `cluster` and `sentinel` import this: it loads redis-py (12 MB)."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

from redis import exceptions

from stoker.redis.replies import ErrorReply
from stoker.redis.url import Options

RESP2 = 2
"""The protocol of all connections: RESP3 shapes replies differently."""

_OF_CLUSTERS = (exceptions.RedisClusterException, exceptions.ClusterError)
_WRAPPING = (exceptions.ConnectionError, exceptions.RedisClusterException)
_FLAGS = ("ssl_include_verify_flags", "ssl_exclude_verify_flags")


def for_redispy(options: Options) -> dict[str, Any]:
    """The options of a connection as redis-py takes them: flags as lists."""
    flags = {name: list(options[name]) for name in _FLAGS if name in options}
    return {**options, **flags, "protocol": RESP2}


@contextlib.contextmanager
def redispy_errors_translated() -> Iterator[None]:
    """Raise ErrorReply or OSError for errors of redis-py."""
    try:
        yield
    except (exceptions.RedisError, exceptions.RedisClusterException) as error:
        raise translate(error) from error


def translate(error: Exception) -> ErrorReply | OSError:
    """The ErrorReply or OSError that an error of redis-py stands for."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLError):
            return each
        if isinstance(each, exceptions.RedisError) and each.status_code:
            return ErrorReply(f"{each.status_code} {each}")
        if isinstance(each, exceptions.ResponseError):
            return ErrorReply(str(each))
    if isinstance(error, OSError):
        return error
    if isinstance(error, _OF_CLUSTERS) and not any(map(_is_loss, _causes(error))):
        return ErrorReply(f"CLUSTERDOWN {error}")
    if isinstance(error, exceptions.TimeoutError):
        return TimeoutError(str(error))
    return ConnectionError(str(error))


def _is_loss(error: BaseException) -> bool:
    return isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    # redis-py wraps errors of connecting, sometimes twice.
    yield error
    each: BaseException | None = error
    while isinstance(each, _WRAPPING) and (each := each.__cause__ or each.__context__):
        yield each
