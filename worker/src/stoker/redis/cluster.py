"""A client for Redis Cluster. redis-py tracks nodes and slots; batching, MOVED and ASK are handled here.

redis-py's own pipeline does not look for the successor of a dead node, and sends ASKING on any free connection.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, ClassVar, cast

from redis import exceptions
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

from stoker.errors import Invalid, RedisUnavailable
from stoker.redis.client import Routed
from stoker.redis.failures import ALL_IN_USE
from stoker.redis.redispy import Parser, TlsConnection, for_redispy, limited, redispy_errors_translated, translate
from stoker.redis.replies import code
from stoker.redis.reply_limit import ReplyLimit
from stoker.redis.url import Host, Options
from stoker.redis.wire import NO_MASTER, Command

REDIRECTIONS = 5
_LOST = (exceptions.ConnectionError, exceptions.TimeoutError)
_STALE = NO_MASTER | {"CLUSTERDOWN", "LOADING"}
_ASKING = ("ASKING",)
_UNKNOWN_TO_CLUSTERS = ("ssl_ca_path", "ssl_password")


class Cluster:
    """A RedisClient for one cluster, discovered through any of `seeds`."""

    follows_slots: ClassVar[bool] = True

    def __init__(self, seeds: Sequence[Host], options: Options, limit: ReplyLimit) -> None:
        self.old = False
        self._nodes = _Nodes(seeds, options, limit)
        self._patience: float = options["socket_timeout"]
        # A call uses one connection to each node at a time, so this limit holds for every node.
        self._slots_free = asyncio.Semaphore(options["max_connections"])

    async def round_trip(self, commands: Sequence[Routed]) -> list[Any]:
        """See RedisClient. Only commands answered with MOVED or ASK are sent again, to the node named there."""
        async with self._connection_slot():
            replies: list[Any] = [None] * len(commands)
            left: Sequence[int] = range(len(commands))
            for _ in range(REDIRECTIONS):
                await self._nodes.initialize()
                await self._send(commands, left, replies)
                left = [at for at in left if isinstance(replies[at], MovedError)]
                if not left:
                    break
                await self._nodes.follow([replies[at] for at in left])
            for at, reply in enumerate(replies):
                if _asks(reply):
                    [replies[at]] = await self._ask(reply, [commands[at].command])
            return _from_redispy(replies)

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """See RedisClient. Sent in one batch."""
        return await self.round_trip(list(commands))

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        """See RedisClient. If one was redirected all are sent again: the others may depend on it."""
        async with self._connection_slot():
            batch = [each.command for each in commands]
            replies: list[Any] = []
            for _ in range(REDIRECTIONS):
                await self._nodes.initialize()
                replies = await self._on(self._nodes.of(commands[0].key), batch, blocks)
                if redirection := next(filter(_asks, replies), None):
                    replies = await self._ask(redirection, batch, blocks)
                moved = [reply for reply in replies if isinstance(reply, MovedError)]
                if not moved:
                    break
                await self._nodes.follow(moved)
            return _from_redispy(replies)

    async def everywhere(self, *command: Any) -> list[Any]:
        """See RedisClient."""
        async with self._connection_slot():
            await self._nodes.initialize()
            answers = await asyncio.gather(*(self._on(node, [command]) for node in self._nodes.get_primaries()))
            return _from_redispy([reply for [reply] in answers])

    async def aclose(self) -> None:
        """See RedisClient."""
        with redispy_errors_translated():
            await self._nodes.aclose()

    def abandon(self) -> None:
        """See RedisClient. redis-py's connections close when they are collected."""

    @contextlib.asynccontextmanager
    async def _connection_slot(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await self._slots_free.acquire()
        except TimeoutError as error:
            raise RedisUnavailable(ALL_IN_USE) from error
        try:
            with redispy_errors_translated():
                yield
        finally:
            self._slots_free.release()

    async def _send(self, commands: Sequence[Routed], left: Sequence[int], replies: list[Any]) -> None:
        batches: dict[ClusterNode, list[int]] = {}
        for at in left:
            batches.setdefault(self._nodes.of(commands[at].key), []).append(at)

        async def one(node: ClusterNode, batch: list[int]) -> None:
            for at, reply in zip(batch, await self._on(node, [commands[at].command for at in batch]), strict=True):
                replies[at] = reply

        await asyncio.gather(*(one(node, batch) for node, batch in batches.items()))

    async def _ask(self, redirection: AskError, commands: Sequence[Command], blocks: float = 0.0) -> list[Any]:
        node = self._nodes.get_node(redirection.host, redirection.port)
        if node is None:
            self._nodes.rediscover()
            return [redirection] * len(commands)
        asking = [each for command in commands for each in (_ASKING, command)]
        return (await self._on(node, asking, blocks))[1::2]

    async def _on(self, node: ClusterNode, commands: Sequence[Command], blocks: float = 0.0) -> list[Any]:
        try:
            async with asyncio.timeout(self._patience + blocks):
                replies = await _exchange(node, commands)
        except TimeoutError:
            replies = [TimeoutError("Timeout: no answer in time")] * len(commands)
        except RedisError as error:
            replies = [error] * len(commands)
        if any(map(_is_stale, replies)):
            self._nodes.rediscover(node)
        return replies


class _Nodes(RedisCluster):
    """The slot map and the connections to the nodes."""

    def __init__(self, seeds: Sequence[Host], options: Options, limit: ReplyLimit) -> None:
        known_options = for_redispy(options)
        more = {name: known_options.pop(name) for name in _UNKNOWN_TO_CLUSTERS if name in known_options} | limited(limit)
        known_options["max_connections"] += 1  # one to rediscover the nodes meanwhile
        super().__init__(startup_nodes=[ClusterNode(*host) for host in seeds], retry=Retry(NoBackoff(), 0), **known_options)
        # redis-py's connections take these options, but RedisCluster does not pass them on.
        for kwargs in (self.connection_kwargs, *(node.connection_kwargs for node in self.startup_nodes)):
            kwargs.update(more)
        if self.connection_kwargs.get("connection_class") is SSLConnection:
            self.connection_kwargs["connection_class"] = TlsConnection
            for node in self.startup_nodes:
                node.connection_class = TlsConnection
        self._last_lost: str | None = None

    async def initialize(self, *args: Any, **options: Any) -> "_Nodes":
        """Discover nodes and slots. redis-py insists on its first master for this, even while that one is down."""
        try:
            await super().initialize(*args, **{"last_failed_node_name": self._last_lost, **options})
        except _LOST:
            for node in self.get_primaries():
                with contextlib.suppress(*_LOST):
                    await self.commands_parser.initialize(node)
                    self.nodes_manager.default_node = node
                    self._initialize = False
                    return self
            raise
        return self

    def of(self, key: str) -> ClusterNode:
        """The node that holds a key."""
        return self.nodes_manager.get_node_from_slot(self.keyslot(key))

    def rediscover(self, node: ClusterNode | None = None) -> None:
        """Rediscover the cluster before the next call, asking this node last."""
        self._initialize = True
        self._last_lost = node.name if node else None

    async def follow(self, moved: Iterable[MovedError]) -> None:
        """Update the slot map from MOVED replies."""
        for slot in {error.slot_id: error for error in moved}.values():
            await self.nodes_manager.move_slot(slot)

    async def aclose(self) -> None:
        """Close all connections. redis-py leaks those of a cluster that it was about to rediscover."""
        self._initialize = False
        await super().aclose()


def _from_redispy(replies: Sequence[Any]) -> list[Any]:
    return [translate(reply) if isinstance(reply, Exception) else reply for reply in replies]


def _is_stale(reply: Any) -> bool:
    """Whether the reply suggests that the slot map is out of date."""
    if not isinstance(reply, Exception):
        return False
    error = translate(reply)
    return isinstance(error, OSError) or code(error) in _STALE


def _asks(reply: Any) -> bool:
    return isinstance(reply, AskError) and not isinstance(reply, MovedError)


async def _exchange(node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
    """Send commands and read raw replies on one connection. Cancelling disconnects, which ends the command in Redis."""
    connection = node.acquire_connection()
    try:
        if connection.is_connected and await connection.can_read():  # the server has closed it
            await connection.disconnect(nowait=True)
        await connection.send_packed_command(_packed(connection, commands))
        with _parser(connection).round_trip():
            return [await _reply(connection) for _ in commands]
    finally:
        node.release(connection)


def _packed(connection: Connection, commands: Sequence[Command]) -> Any:
    try:
        return connection.pack_commands(commands)
    except (exceptions.DataError, ValueError) as error:  # ValueError: half of a surrogate pair in a text
        raise Invalid(f"an argument cannot be sent to Redis: {error}") from error


def _parser(connection: Connection) -> Parser:
    return cast(Parser, connection._parser)


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error
