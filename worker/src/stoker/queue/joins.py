"""The joins of groups: who they wait for, and how to call a workflow off before all of it is there."""

from collections.abc import Sequence
from typing import NamedTuple

from stoker.queue import scripts
from stoker.queue.connection import RedisClient
from stoker.queue.items import PERFORMED_AT_ONCE, Keyed, entomb, relay_call
from stoker.queue.keys import Keys
from stoker.queue.scripts import Call
from stoker.rules.message import Message


class Waits(NamedTuple):
    """A join that waits for `missing` of its `total` members; `members` are the numbers of some of these."""

    total: int
    missing: int
    members: list[int]


class Joins:
    """The joins of one namespace. Raises RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace

    async def waits(self, queue: str, join: str, most: int) -> Waits | None:
        """What this join waits for, naming `most` members; None where it does not wait."""
        k = Keys(self._namespace, queue)
        [reply] = await scripts.run(self._redis, Call("missing", (k.waiting, k.arrivals), [join, most]))
        return Waits(reply[0], reply[1], reply[2:]) if reply else None

    async def entomb(self, queue: str, messages: Sequence[Message]) -> None:
        """Make tasks cancelled that are not there yet: whatever would enqueue them finds them in their graves."""
        for at in range(0, len(messages), PERFORMED_AT_ONCE):
            items = [Keyed("", entomb(message)) for message in messages[at : at + PERFORMED_AT_ONCE]]
            await scripts.run(self._redis, relay_call(Keys(self._namespace, queue), items))
