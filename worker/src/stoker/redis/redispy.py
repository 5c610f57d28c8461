"""Options for redis-py and errors from it. Only `cluster` and `sentinel` import this: it loads redis-py (12 MB)."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator, Mapping
from functools import partial, reduce
from operator import or_
from typing import Any, cast

from hiredis import Reader
from redis import exceptions
from redis._parsers.hiredis import _AsyncHiredisParser
from redis.asyncio.connection import SSLConnection

from stoker.redis.connector import shared_context
from stoker.redis.replies import ErrorReply
from stoker.redis.reply_limit import NotRedis, ReplyLimit, ReplyMeter, ReplyTooLarge
from stoker.redis.url import Options

RESP2 = 2
"""The protocol of all connections: RESP3 shapes replies differently."""

_OF_CLUSTERS = (exceptions.RedisClusterException, exceptions.ClusterError)
_WRAPPING = (exceptions.ConnectionError, exceptions.RedisClusterException)
_FLAGS = ("ssl_include_verify_flags", "ssl_exclude_verify_flags")


class Parser(_AsyncHiredisParser):
    """redis-py's parser within a limit, which holds for each reply, and for all replies of a `round_trip`."""

    __slots__ = ("_meter", "_together")

    def __init__(self, limit: ReplyLimit, socket_read_size: int) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self._meter = ReplyMeter(limit)
        self._together = False

    @contextlib.contextmanager
    def round_trip(self) -> Iterator[None]:
        """Within the block all replies count together."""
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self._meter.done()

    def on_disconnect(self) -> None:
        """Forget what was received."""
        self._meter.done()
        super().on_disconnect()  # type: ignore[no-untyped-call]

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:
        """Raises redis-py's ConnectionError beyond the limit."""
        try:
            return await super().read_response(disable_decoding, push_request)
        finally:
            if not self._together:
                self._meter.done()

    async def read_from_socket(self) -> bool:
        """As redis-py's, counted before it is parsed."""
        data = await cast(asyncio.StreamReader, self._stream).read(self._read_size)
        if not data:
            raise exceptions.ConnectionError("Connection closed by server.")
        try:
            self._meter.feed(data)
        except OSError as error:
            raise exceptions.ConnectionError(str(error)) from error
        cast(Reader, self._reader).feed(data)
        return True


class TlsConnection(SSLConnection):
    """redis-py's, with a TLS context that connections share where they may. redis-py makes one for each connection."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        made = self.ssl_context
        if made.context is None and not (made.certfile or made.keyfile or made.ca_certs or made.ca_path):
            names = ("cert_reqs", "check_hostname", "ca_data", "min_version", "ciphers")
            settings = {f"ssl_{name}": value for name in names if (value := getattr(made, name)) is not None}
            for name in ("include_verify_flags", "exclude_verify_flags"):
                if flags := getattr(made, name):
                    settings[f"ssl_{name}"] = reduce(or_, flags)
            made.context = shared_context(tuple(sorted(settings.items())))
        return super()._connection_arguments()


def for_redispy(options: Options) -> dict[str, Any]:
    """The options of a connection as redis-py takes them: flags as lists. The parser is set apart, see `limited`."""
    flags = {name: list(options[name]) for name in _FLAGS if name in options}
    return {**options, **flags, "protocol": RESP2}


def limited(limit: ReplyLimit) -> dict[str, Any]:
    """The option of redis-py's connections (not of its clients) that bounds replies."""
    return {"parser_class": partial(Parser, limit)}


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
        if isinstance(each, ssl.SSLError | ReplyTooLarge | NotRedis):
            return each
        if isinstance(each, exceptions.InvalidResponse):
            return NotRedis(f"the reply is not in the Redis protocol: {each}")
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
