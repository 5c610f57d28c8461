"""A Redis Cluster: redis-py's client, with batches that follow their slot wherever it goes.

redis-py's own pipeline does not look for a dead node's successor, and sends ASKING on any connection that is free.
"""

import asyncio
import contextlib
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

from redis.asyncio.cluster import ClusterNode, PipelineCommand, RedisCluster
from redis.exceptions import AskError, MovedError

from redis import exceptions

REDIRECTIONS = 5
_LOST = (exceptions.ConnectionError, exceptions.TimeoutError)


class Routed(NamedTuple):
    """A command, and the key whose slot says which node is to run it."""

    key: str
    command: tuple[Any, ...]


class Cluster(RedisCluster):
    """A client for all nodes of one cluster."""

    async def initialize(self, *args: Any, **options: Any) -> "Cluster":
        """Ask the cluster who has what. redis-py wants its first master for that, also while just that one is down."""
        try:
            await super().initialize(*args, **options)
        except _LOST:
            for node in self.get_primaries():
                with contextlib.suppress(*_LOST):
                    await self.commands_parser.initialize(node)
                    self.nodes_manager.default_node = node
                    self._initialize = False
                    return self
            raise
        return self

    async def round_trip(self, commands: Sequence[Routed]) -> list[Any]:
        """Run commands, in order within a slot, in one round trip to each node. Errors are returned in place of replies.

        Only what a node has refused to run is sent again, to where it points.
        """
        replies: list[Any] = [None] * len(commands)
        left: Sequence[int] = range(len(commands))
        for _ in range(REDIRECTIONS):
            await self.initialize()
            await self._send(commands, left, replies)
            moved = {commands[at].key: replies[at] for at in left if isinstance(replies[at], MovedError)}
            # A WAIT has run even so, on the wrong node: it goes where the commands go that it is about.
            left = [at for at in left if isinstance(replies[at], MovedError) or self._waits_for(commands[at], moved)]
            if not moved:
                break
            for slot in {error.slot_id: error for error in moved.values()}.values():
                await self.nodes_manager.move_slot(slot)
        for at, reply in enumerate(replies):
            if isinstance(reply, AskError) and not isinstance(reply, MovedError):
                replies[at] = await self._ask(reply, commands[at].command)
        return replies

    def _waits_for(self, routed: Routed, moved: Container[str]) -> bool:
        return routed.key in moved and routed.command[0] in {"WAIT", "WAITAOF"}

    async def _send(self, commands: Sequence[Routed], left: Sequence[int], replies: list[Any]) -> None:
        batches: dict[ClusterNode, list[int]] = {}
        for at in left:
            node = self.nodes_manager.get_node_from_slot(self.keyslot(commands[at].key))
            batches.setdefault(node, []).append(at)

        async def one(node: ClusterNode, batch: list[int]) -> None:
            for at, reply in zip(batch, await self._on(node, [commands[at].command for at in batch]), strict=True):
                replies[at] = reply

        await asyncio.gather(*(one(node, batch) for node, batch in batches.items()))

    async def _ask(self, redirection: AskError, command: Sequence[Any]) -> Any:
        node = self.get_node(redirection.host, redirection.port)
        if node is None:
            self._initialize = True
            return redirection
        return (await self._on(node, [("ASKING",), command]))[1]

    async def _on(self, node: ClusterNode, commands: Sequence[Sequence[Any]]) -> list[Any]:
        batch = [PipelineCommand(at, *command) for at, command in enumerate(commands)]
        try:
            await node.execute_pipeline(batch)
            replies = [each.result for each in batch]
        except _LOST as error:
            replies = [error] * len(commands)
        if any(isinstance(reply, _LOST) for reply in replies):
            self._initialize = True  # the next call asks the cluster who has taken over
        return replies
