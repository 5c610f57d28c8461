"""The outbox of a partition: what its tasks set off in other partitions, or in more steps than one script may take.

An entry is added by the settlement that sets it off, in the same script. It is relayed at once by the worker that settled, and
by every worker's maintenance in case that one died. Its effects are performed first, each of them once, then it is removed.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.announcements import Announcements
from stoker.queue.keys import Keys
from stoker.queue.partitions import Partitions
from stoker.queue.scripts import chunks
from stoker.queue.workflows.effects import PERFORMED_AT_ONCE, Keyed, relay_call
from stoker.redis.client import RedisClient, ask
from stoker.redis.replies import entries
from stoker.rules.dead_task import Burial, read_burial
from stoker.rules.effects import BreakJoin, Effect, EnqueueTask, OpenJoin, begin
from stoker.rules.settle import Failure
from stoker.rules.workflow import OutboxEntry, load_entry

RELAYED_AT_ONCE = 50
CALLS_AT_ONCE = 10
_FATES = {
    "cancelled": "was cancelled",
    "discarded": "died and was deleted",
    "purged": "was purged",
    "forgotten": "died and was not redriven before its retention was over",
}


class StoredEntry(NamedTuple):
    """An entry of the outbox's stream: a chain to begin (`body`), or what the scripts add: a member that will never succeed, or the
    story of a task that is dead, for its handlers.
    """

    number: str
    fields: Mapping[bytes, bytes]

    def read(self) -> OutboxEntry | BreakJoin | Burial:
        """Raises Invalid for what cannot be relayed."""
        body = self.fields.get(b"body")
        if b"dead" in self.fields:
            return read_burial(self.number, self.fields)
        return _break_join(self.fields) if body is None else load_entry(body)


class Outbox:
    """The outbox of one partition. Raises RedisUnavailable or RedisRefused; what was not relayed stays."""

    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._partitions = Partitions(redis, keys.namespace)
        self._announcements = Announcements(redis, keys.namespace)

    async def read(self) -> list[StoredEntry]:
        """The oldest entries, at most RELAYED_AT_ONCE."""
        found = await ask(self._redis, "XRANGE", self._keys.outbox, "-", "+", "COUNT", RELAYED_AT_ONCE)
        return [StoredEntry(number.decode(), fields) for number, fields in entries(found)]

    async def relay(self, stored: Sequence[StoredEntry]) -> None:
        """Perform the effects of these entries, then remove them. Safe to repeat at any time, also by several at once.

        Raises Invalid where some cannot be read, after the others are relayed: those stay, for a newer version or the doctor.
        """
        relayed: list[str] = []
        unreadable: dict[str, Invalid] = {}
        for entry in stored:
            try:
                effects = await self._effects(entry)
            except Invalid as error:
                unreadable[entry.number] = error
                continue
            await self._perform([each for each in effects if isinstance(each.effect, OpenJoin)])  # before their members succeed
            await self._perform([each for each in effects if not isinstance(each.effect, OpenJoin)])
            relayed.append(entry.number)
        if relayed:
            await ask(self._redis, "XDEL", self._keys.outbox, *relayed)
        for number, reason in unreadable.items():
            raise Invalid(f"entry {number} of the outbox of {self._keys.queue} cannot be relayed: {reason}") from reason

    async def register(self, partition: str) -> None:
        """Make a partition known to those that list queues."""
        await self._announcements.announce(partition)

    async def _effects(self, stored: StoredEntry) -> list[Keyed]:
        entry = stored.read()
        if isinstance(entry, BreakJoin):
            return [Keyed("", entry)]
        entries = list(entry.entries()) if isinstance(entry, Burial) else [entry]
        locate = await self._partitions.locator([each.steps for each in entries])
        return [Keyed(_key(each.key, effect), effect) for each in entries for effect in begin(each, locate)]

    async def _perform(self, effects: Sequence[Keyed]) -> None:
        for batches in chunks(list(_batches(effects)), CALLS_AT_ONCE):
            for partition, _ in batches:
                await self.register(partition)
            calls = (relay_call(Keys(self._keys.namespace, partition), batch) for partition, batch in batches)
            await scripts.run(self._redis, *calls)


async def entries_of(redis: RedisClient, keys: Keys) -> AsyncIterator[StoredEntry]:
    """All entries of an outbox, in pages."""
    after = "-"
    while True:
        found = entries(await ask(redis, "XRANGE", keys.outbox, after, "+", "COUNT", RELAYED_AT_ONCE))
        for number, fields in found:
            yield StoredEntry(number.decode(), fields)
        if len(found) < RELAYED_AT_ONCE:
            return
        after = f"({found[-1][0].decode()}"


def _break_join(fields: Mapping[bytes, bytes]) -> BreakJoin:
    """A member that will never succeed. Raises Invalid for malformed fields."""
    texts: dict[str, str] = {}
    with suppress(UnicodeDecodeError):
        texts = {name.decode(): value.decode() for name, value in fields.items()}
    if missing := {"home", "join", "at", "id", "why"} - texts.keys():
        raise Invalid(f"not an entry of an outbox: it has no {', '.join(sorted(missing))}")
    fate = _FATES.get(texts["why"], f"is gone ({texts['why']})")  # a newer version may know other reasons
    words = f"member {texts['at']} of the group, task {texts['id']}, {fate}: what was to follow cannot"
    return BreakJoin(texts["home"], texts["join"], Failure("GroupBroken", words))


def _key(entry: str, effect: Effect) -> str:
    """The key under which it is performed once. A member's success needs none: the join counts each member once."""
    match effect:
        case EnqueueTask(_, admission):
            return f"{entry} {admission.message.id}"
        case OpenJoin(_, placeholder):
            return f"{entry} join {placeholder.id}"
    return ""


def _batches(effects: Sequence[Keyed]) -> Iterator[tuple[str, Sequence[Keyed]]]:
    """By partition, at most as many as one script may perform."""
    by_partition: dict[str, list[Keyed]] = {}
    for keyed in effects:
        by_partition.setdefault(keyed.effect.partition, []).append(keyed)
    for partition, several in by_partition.items():
        for batch in chunks(several, PERFORMED_AT_ONCE):
            yield partition, batch
