"""The catalogue: the names of the partitions of one namespace. Read in steps, since any producer can add names to it."""

import heapq
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from stoker.errors import RedisRefused, RedisUnreadable
from stoker.queue import scripts
from stoker.queue.keys import Keys, catalogue, partition_counts
from stoker.queue.partitions import Partitions
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient, Routed, ask
from stoker.redis.failures import errors_mapped, mapped
from stoker.rules.partitions import MOST, is_partition

READ_AT_ONCE = 1000
IDLE = 86_400.0
"""Seconds after its last task for which the name of an empty queue is kept."""
SAMPLE, SAMPLES = 20, 50
"""Names that are looked at together, and how often in one pass."""


IN_USE = {"workers": "workers", "tasks": "tasks", "schedules": "schedules", "claim": "the claim of a TaskQueue"}
"""What keeps a queue in use, as `forget.lua` says it, in words."""


class NamePage(NamedTuple):
    """Names in order, and the `after` of the next page: None at the end."""

    names: list[str]
    next: str | None


class Catalogue:
    """The names of all partitions of a namespace that are in use. All methods raise RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace

    async def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({name async for some in self._read() for name in some})

    async def page(self, limit: int, after: str = "") -> NamePage:
        """The first `limit` names behind `after`, in memory for these alone."""
        first: list[str] = []
        async for some in self._read():
            first = heapq.nsmallest(limit + 1, {*first, *(name for name in some if name > after)})
        return NamePage(first[:limit], first[limit - 1] if len(first) > limit else None)

    async def unknown(self, queues: Sequence[str]) -> list[str]:
        """Those that are neither in the catalogue nor claimed by a TaskQueue, whose workers may never have started."""
        key, metas = catalogue(self._namespace), [Keys(self._namespace, queue).meta for queue in queues]
        commands = [Routed(key, ("SMISMEMBER", key, *queues)), *(Routed(meta, ("HEXISTS", meta, "claim")) for meta in metas)]
        with errors_mapped():
            replies = await self._redis.round_trip(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise mapped(reply) from reply
        listed, *claimed = replies
        return [queue for queue, *found in zip(queues, listed, claimed, strict=True) if not any(found)]

    async def forget(self, queue: str, *, everything: bool = False, idle: float = 0.0) -> str:
        """Delete a queue that is not in use, or `everything` of any. Returns '', or what keeps it in use: see `forget.lua`.

        With `idle` it is in use while it is paused, and for that many seconds after its last task came.
        """
        names = sorted({*await Partitions(self._redis, self._namespace).names(queue), *await self._named_like(queue)})
        if use := await self._each("look", names, idle) if not everything else "":
            return use
        if use := await self._each("all" if everything else "forget", names, idle):
            return use
        await ask(self._redis, "SREM", catalogue(self._namespace), *names)
        await ask(self._redis, "HDEL", partition_counts(self._namespace), queue)
        for name in names:
            keys = Keys(self._namespace, name)
            if await ask(self._redis, "EXISTS", keys.tasks, keys.inbox):  # a task came meanwhile
                await ask(self._redis, "SADD", catalogue(self._namespace), *names)
        return ""

    async def forget_idle(self) -> int:
        """Forget queues of which nothing is left, and to which nothing came for IDLE seconds. Returns how many.

        Looks at a random sample, and at another one while a quarter of it is forgotten: the scheme of Redis' own expiry. So a
        catalogue of any size costs little, and one that was flooded is soon small again.
        """
        forgotten = 0
        for _ in range(SAMPLES):
            sample = await ask(self._redis, "SRANDMEMBER", catalogue(self._namespace), SAMPLE)
            queues = {name.decode().partition(":")[0] for name in sample if is_partition(name)}
            gone = 0
            for queue in sorted(queues):
                with suppress(RedisRefused):  # damaged, or of another user
                    gone += not await self.forget(queue, idle=IDLE)
            forgotten += gone
            if gone * 4 < SAMPLE:
                break
        return forgotten

    async def _named_like(self, queue: str) -> list[str]:
        """Its partitions in the catalogue, also of a queue whose number of partitions is lost."""
        names = [f"{queue}:{number}" for number in range(1, MOST)]
        key = catalogue(self._namespace)
        flags = await ask(self._redis, "SMISMEMBER", key, *names)
        return [name for name, there in zip(names, flags, strict=True) if there]

    async def _each(self, verb: str, names: Sequence[str], idle: float) -> str:
        """The first answer of `forget.lua` that is not empty."""
        calls = [ScriptCall("forget", Keys(self._namespace, name), [verb, round(idle * 1000)]) for name in names]
        return next((use.decode() for use in await scripts.run(self._redis, *calls) if use), "")

    async def _read(self) -> AsyncIterator[list[str]]:
        """All names, in steps; one may come twice. What is no name of a partition, another program has added: it is left out."""
        cursor = b"0"
        while True:
            reply = await ask(self._redis, "SSCAN", catalogue(self._namespace), cursor, "COUNT", READ_AT_ONCE)
            if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], bytes) and isinstance(reply[1], list)):
                raise RedisUnreadable("the catalogue of queues is none that Stoker wrote: is this Redis, and Stoker's?")
            cursor, found = reply
            yield [name.decode() for name in found if isinstance(name, bytes) and is_partition(name)]
            if cursor == b"0":
                return
