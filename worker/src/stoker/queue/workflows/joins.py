"""The joins of groups: who they wait for, and how to call a workflow off before all of it is there."""

from collections.abc import Sequence
from typing import NamedTuple

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.partitions import Partitions
from stoker.queue.scripts import ScriptCall
from stoker.queue.workflows.effects import PERFORMED_AT_ONCE, Keyed, entomb, relay_call
from stoker.redis.client import RedisClient
from stoker.rules.message import Message
from stoker.rules.partitions import Kind, place_of


class Waits(NamedTuple):
    """A join that waits for `missing` of its `total` members; `members` are the numbers of some of these."""

    total: int
    missing: int
    members: list[int]


class Joins:
    """The joins of one namespace. Raises RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, namespace: str, partitions: Partitions) -> None:
        self._redis = redis
        self._namespace = namespace
        self._partitions = partitions

    async def waits(self, queue: str, join: str, most: int) -> Waits | None:
        """What this join waits for, naming `most` members; None where it does not wait."""
        keys = [Keys(self._namespace, place) for place in await self._partitions.places(queue)]
        replies = await scripts.run(self._redis, *(ScriptCall("missing", k, [join, most]) for k in keys))
        return next((Waits(reply[0], reply[1], reply[2:]) for reply in replies if reply), None)

    async def entomb(self, queue: str, graves: Sequence[tuple[Kind, Message]]) -> None:
        """Make tasks cancelled that are not there yet: whatever would enqueue them finds them in their graves."""
        names = await self._partitions.places(queue)
        by_place: dict[str, list[Keyed]] = {}
        for kind, message in graves:
            by_place.setdefault(place_of(kind, names), []).append(Keyed("", entomb(message)))
        for place, items in by_place.items():
            for at in range(0, len(items), PERFORMED_AT_ONCE):
                await scripts.run(self._redis, relay_call(Keys(self._namespace, place), items[at : at + PERFORMED_AT_ONCE]))
