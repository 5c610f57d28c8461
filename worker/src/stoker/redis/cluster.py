"""A Redis Cluster: redis-py's client knows its nodes and slots; batches follow their slot wherever it goes.

redis-py's own pipeline does not look for a dead node's successor, and sends ASKING on any connection that is free.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, ClassVar

from redis import exceptions
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

from stoker.errors import RedisUnavailable
from stoker.redis.client import Routed
from stoker.redis.redispy import for_redispy, ours, translated
from stoker.redis.replies import code
from stoker.redis.url import Host, Options
from stoker.redis.wire import NO_MASTER, Command

REDIRECTIONS = 5
_LOST = (exceptions.ConnectionError, exceptions.TimeoutError)
_DOUBTFUL = NO_MASTER | {"CLUSTERDOWN", "LOADING"}
_ASKING = ("ASKING",)
_UNKNOWN_TO_CLUSTERS = ("ssl_ca_path", "ssl_password")


class Cluster:
    """A RedisClient for all nodes of one cluster, found through any of `seeds`."""

    follows_slots: ClassVar[bool] = True

    def __init__(self, seeds: Sequence[Host], options: Options) -> None:
        self.old = False
        self._nodes = _Nodes(seeds, options)
        self._patience: float = options["socket_timeout"]
        # Each call has one connection at a time to a node: so a node never lacks one.
        self._turns = asyncio.Semaphore(options["max_connections"])

    async def round_trip(self, commands: Sequence[Routed]) -> list[Any]:
        """See RedisClient. Only what a node has refused to run is sent again, to where it points."""
        async with self._turn():
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
            return _in_our_words(replies)

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """See RedisClient. They leave together."""
        return await self.round_trip(list(commands))

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        """See RedisClient. All are sent again where one of them was not run: the others may be about it."""
        async with self._turn():
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
            return _in_our_words(replies)

    async def everywhere(self, *command: Any) -> list[Any]:
        """See RedisClient."""
        async with self._turn():
            await self._nodes.initialize()
            answers = await asyncio.gather(*(self._on(node, [command]) for node in self._nodes.get_primaries()))
            return _in_our_words([reply for [reply] in answers])

    async def aclose(self) -> None:
        """See RedisClient."""
        with translated():
            await self._nodes.aclose()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise RedisUnavailable("this process already uses all the connections to Redis that it may have") from error
        try:
            with translated():
                yield
        finally:
            self._turns.release()

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
            self._nodes.doubt()
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
        if any(map(_is_doubtful, replies)):
            self._nodes.doubt(node)
        return replies


class _Nodes(RedisCluster):
    """Who has which slots, and the connections to them."""

    def __init__(self, seeds: Sequence[Host], options: Options) -> None:
        told = for_redispy(options)
        more = {name: told.pop(name) for name in _UNKNOWN_TO_CLUSTERS if name in told}
        told["max_connections"] += 1  # one for who looks for the nodes meanwhile
        super().__init__(startup_nodes=[ClusterNode(*host) for host in seeds], retry=Retry(NoBackoff(), 0), **told)
        # redis-py's connections know these options, only its cluster does not pass them on.
        for known in (self.connection_kwargs, *(node.connection_kwargs for node in self.startup_nodes)):
            known.update(more)
        self._last_lost: str | None = None

    async def initialize(self, *args: Any, **options: Any) -> "_Nodes":
        """Ask the cluster who has what. redis-py wants its first master for that, also while just that one is down."""
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
        """Who has it."""
        return self.nodes_manager.get_node_from_slot(self.keyslot(key))

    def doubt(self, node: ClusterNode | None = None) -> None:
        """The next call asks the cluster who has taken over, this node last."""
        self._initialize = True
        self._last_lost = node.name if node else None

    async def follow(self, moved: Iterable[MovedError]) -> None:
        """Go where these point."""
        for slot in {error.slot_id: error for error in moved}.values():
            await self.nodes_manager.move_slot(slot)

    async def aclose(self) -> None:
        """Give all connections back. redis-py forgets those of a cluster that it was about to ask anew."""
        self._initialize = False
        await super().aclose()


def _in_our_words(replies: Sequence[Any]) -> list[Any]:
    return [ours(reply) if isinstance(reply, Exception) else reply for reply in replies]


def _is_doubtful(reply: Any) -> bool:
    """Whether its node may not be the one to ask any more."""
    if not isinstance(reply, Exception):
        return False
    error = ours(reply)
    return isinstance(error, OSError) or code(error) in _DOUBTFUL


def _asks(reply: Any) -> bool:
    return isinstance(reply, AskError) and not isinstance(reply, MovedError)


async def _exchange(node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
    """On one connection, without what redis-py makes of replies. Whoever is cancelled here is cancelled in Redis, too."""
    connection = node.acquire_connection()
    try:
        if connection.is_connected and await connection.can_read():  # the server has closed it meanwhile
            await connection.disconnect(nowait=True)
        await connection.send_packed_command(connection.pack_commands(commands))
        return [await _reply(connection) for _ in commands]
    finally:
        node.release(connection)


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error
