"""A Redis Cluster: one `Server` for each node, and batches that follow their slot wherever it goes."""

import asyncio
from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from stoker.errors import RedisRefused
from stoker.queue.access import Access
from stoker.queue.address import Host
from stoker.queue.commands import Routed
from stoker.queue.failures import mapped
from stoker.queue.replies import ErrorReply, code
from stoker.queue.server import Server
from stoker.queue.wire import NO_MASTER

SLOTS = 16384
REDIRECTIONS = 5
_NOBODYS = "CLUSTERDOWN no node has slot"
_DOUBTFUL = NO_MASTER | {"CLUSTERDOWN"}
_ASKING = ("ASKING",)


class Cluster:
    """A RedisClient for all nodes of one cluster, found through any of `seeds`."""

    follows_slots: ClassVar[bool] = True

    def __init__(self, seeds: Sequence[Host], access: Access) -> None:
        self._seeds = seeds
        self._access = access
        self._nodes: dict[Host, Server] = {}
        self._owners: list[Host | None] = []
        """By slot; empty while it has to be asked for."""
        self._looking = asyncio.Lock()

    async def round_trip(self, commands: Sequence[Routed]) -> list[Any]:
        """See RedisClient. Only what a node has refused to run is sent again, to where it points."""
        replies: list[Any] = [None] * len(commands)
        left: Sequence[int] = range(len(commands))
        for _ in range(REDIRECTIONS):
            owners = await self._known()
            hosts = {at: owners[slot_of(commands[at].key)] for at in left}
            await self._send(commands, hosts, replies)
            left = [at for at in left if code(replies[at]) == "MOVED"]
            if not left:
                break
            for at in left:
                self._follow(replies[at], hosts[at])
        for at, reply in enumerate(replies):
            if code(reply) == "ASK":
                where = pointed_at(reply, self._owner(commands[at].key))
                replies[at] = (await self._on(where, [Routed("", _ASKING), commands[at]]))[1]
        return replies

    async def stream(self, commands: Iterable[Routed]) -> list[Any]:
        """See RedisClient. They leave together."""
        return await self.round_trip(list(commands))

    async def alone(self, commands: Sequence[Routed], *, blocks: float = 0.0) -> list[Any]:
        """See RedisClient. All are sent again where one of them was not run: the others may be about it."""
        replies: list[Any] = []
        for _ in range(REDIRECTIONS):
            host = (await self._known())[slot_of(commands[0].key)]
            if host is None:
                return [self._without_node(commands[0])] * len(commands)
            try:
                replies = await self._node(host).alone(commands, blocks=blocks)
                if asked := next((reply for reply in replies if code(reply) == "ASK"), None):
                    asking = [each for command in commands for each in (Routed("", _ASKING), command)]
                    replies = (await self._node(pointed_at(asked, host)).alone(asking, blocks=blocks))[1::2]
            except (OSError, ErrorReply):
                self._doubt(host)
                raise
            moved = [reply for reply in replies if code(reply) == "MOVED"]
            if not moved:
                self._judge(host, replies)
                break
            for reply in moved:
                self._follow(reply, host)
        return replies

    async def everywhere(self, *command: Any) -> list[Any]:
        """See RedisClient."""
        hosts = dict.fromkeys(host for host in await self._known() if host)
        answers = await asyncio.gather(*(self._on(host, [Routed("", command)]) for host in hosts))
        return [reply for [reply] in answers]

    async def aclose(self) -> None:
        """See RedisClient."""
        for node in self._nodes.values():
            await node.aclose()
        self._nodes, self._owners = {}, []

    async def _send(self, commands: Sequence[Routed], hosts: dict[int, Host | None], replies: list[Any]) -> None:
        batches: dict[Host | None, list[int]] = {}
        for at, host in hosts.items():
            batches.setdefault(host, []).append(at)

        async def one(host: Host | None, batch: list[int]) -> None:
            some = [commands[at] for at in batch]
            answers = await self._on(host, some) if host else [self._without_node(each) for each in some]
            for at, answer in zip(batch, answers, strict=True):
                replies[at] = answer

        await asyncio.gather(*(one(host, batch) for host, batch in batches.items()))

    async def _on(self, host: Host, commands: Sequence[Routed]) -> list[Any]:
        try:
            replies = await self._node(host).round_trip(commands)
        except (OSError, ErrorReply) as error:  # not let in, perhaps: it reads its data, and another has taken over
            self._doubt(host)
            return [error] * len(commands)
        self._judge(host, replies)
        return replies

    def _node(self, host: Host) -> Server:
        if host not in self._nodes:

            async def find() -> Host:
                return host

            self._nodes[host] = Server(self._access, find)
        return self._nodes[host]

    def _judge(self, host: Host, replies: Sequence[Any]) -> None:
        if any(code(reply) in _DOUBTFUL for reply in replies):
            self._doubt(host)

    def _doubt(self, host: Host) -> None:
        """The next call asks the cluster who has taken over; this node is asked last."""
        self._owners = []
        if host in self._nodes:
            self._nodes[host] = self._nodes.pop(host)

    def _without_node(self, routed: Routed) -> ErrorReply:
        self._owners = []
        return ErrorReply(f"{_NOBODYS} {slot_of(routed.key)}")

    def _owner(self, key: str) -> Host | None:
        return self._owners[slot_of(key)] if self._owners else None

    def _follow(self, moved: ErrorReply, asked: Host | None) -> None:
        if self._owners:
            self._owners[int(str(moved).split()[1])] = pointed_at(moved, asked)

    async def _known(self) -> list[Host | None]:
        """Who has each slot. Raises OSError or ErrorReply where no node says so."""
        if not self._owners:
            async with self._looking:
                if not self._owners:
                    await self._look()
        return self._owners

    async def _look(self) -> None:
        """Ask one node after the other, until one knows of all slots; else the one that knows of most is believed."""
        best: list[Host | None] = []
        trouble: Exception | None = None
        for host in tuple(dict.fromkeys((*self._nodes, *self._seeds))):
            try:
                owners = await self._ask_for_owners(host)
            except (OSError, ErrorReply) as error:
                if isinstance(mapped(error), RedisRefused):
                    raise
                trouble = error
                continue
            if not best or owners.count(None) < best.count(None):
                best = owners
            if None not in owners:
                break
        if not best:
            raise trouble or ConnectionError("no node of the cluster answers")
        self._owners = best
        for host in set(self._nodes) - set(best):  # or the dead would be asked first for ever
            await self._nodes.pop(host).aclose()

    async def _ask_for_owners(self, host: Host) -> list[Host | None]:
        [reply] = await self._node(host).round_trip([Routed("", ("CLUSTER", "SLOTS"))])
        if isinstance(reply, Exception):
            raise reply
        return owners_in(reply, host)


def slot_of(key: str) -> int:
    """The slot of a key: that of what stands between its first braces, if anything does."""
    start = key.find("{")
    end = key.find("}", start + 1) if start >= 0 else -1
    return crc_hqx((key[start + 1 : end] if end > start + 1 else key).encode(), 0) % SLOTS


def owners_in(ranges: Sequence[Any], asked: Host) -> list[Host | None]:
    """The masters of all slots, by slot, as CLUSTER SLOTS says it. One that does not say its name has that of the node asked."""
    owners: list[Host | None] = [None] * SLOTS
    for first, last, (name, port, *_), *_ in ranges:
        host = (name.decode() if name else asked[0], port)
        owners[first : last + 1] = [host] * (last + 1 - first)
    return owners


def pointed_at(redirection: ErrorReply, asked: Host | None) -> Host:
    """Where MOVED or ASK points: "MOVED 3999 127.0.0.1:6381"."""
    host, _, port = str(redirection).split()[2].rpartition(":")
    return host or (asked[0] if asked else ""), int(port)
