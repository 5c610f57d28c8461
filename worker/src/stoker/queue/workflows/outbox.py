"""The outbox of a queue: what follows from its tasks in other queues, or in more steps than one script may take.

An entry comes with the settlement that sets it off, in one script. It is relayed by the worker that settled, at once, and by
every worker's upkeep, in case that one died: first to where it belongs, where each item is performed once, and only then away.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.health import check_layout
from stoker.queue.keys import Keys, catalogue
from stoker.queue.partitions import Partitions, located
from stoker.queue.scripts import chunks
from stoker.queue.workflows.effects import PERFORMED_AT_ONCE, Keyed, pack, part, relay_call
from stoker.redis.client import RedisClient, ask
from stoker.redis.replies import entries
from stoker.rules.items import Item, Join, Start, begin
from stoker.rules.plan import read_entry
from stoker.rules.settle import Failure

RELAYED_AT_ONCE = 50
CALLS_AT_ONCE = 10
_FATES = {
    "cancelled": "was cancelled",
    "discarded": "died and was deleted",
    "purged": "was purged",
    "forgotten": "died and was not redriven before its retention was over",
}


class Waiting(NamedTuple):
    """An entry that was read and is to be relayed."""

    number: str
    fields: Mapping[bytes, bytes]

    def check(self) -> None:
        """Raises Invalid for what cannot be relayed."""
        if b"body" in self.fields:
            read_entry(self.fields[b"body"])
        else:
            _parted(self.fields)


class Homed(NamedTuple):
    """An item and the place it is for."""

    place: str
    keyed: Keyed
    is_join: bool = False


class Outbox:
    """The outbox of one queue. Raises RedisUnavailable or RedisRefused; what was not relayed stays."""

    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._partitions = Partitions(redis, keys.namespace)
        self._known: set[str] = set()

    async def read(self) -> list[Waiting]:
        """The oldest entries, at most RELAYED_AT_ONCE."""
        found = await ask(self._redis, "XRANGE", self._keys.outbox, "-", "+", "COUNT", RELAYED_AT_ONCE)
        return [Waiting(number.decode(), fields) for number, fields in entries(found)]

    async def relay(self, waiting: Sequence[Waiting]) -> None:
        """Bring these to where they belong, and only then remove them. May be repeated, also later, and by many at a time.

        Raises Invalid where some cannot be read: those stay, for a newer version or the doctor, and keep no other from its way.
        """
        relayed: list[str] = []
        unreadable: dict[str, Invalid] = {}
        for entry in waiting:
            try:
                items = await self._items(entry.fields)
            except Invalid as wrong:
                unreadable[entry.number] = wrong
                continue
            await self._perform([item for item in items if item.is_join])  # they must be there before the first member is
            await self._perform([item for item in items if not item.is_join])
            relayed.append(entry.number)
        if relayed:
            await ask(self._redis, "XDEL", self._keys.outbox, *relayed)
        for number, error in unreadable.items():
            raise Invalid(f"entry {number} of the outbox of {self._keys.queue} cannot be relayed: {error}") from error

    async def _items(self, fields: Mapping[bytes, bytes]) -> list[Homed]:
        if b"body" not in fields:
            return [_parted(fields)]
        entry = read_entry(fields[b"body"])
        where = await located(self._partitions, [entry.steps])
        items = begin(entry.steps, entry.member, entry.value, entry.origin, entry.key, where)
        return [Homed(item.place, Keyed(_key(entry.key, item), pack(item)), isinstance(item, Join)) for item in items]

    async def _perform(self, items: Sequence[Homed]) -> None:
        for some in chunks(list(_batches(items)), CALLS_AT_ONCE):
            for place, _ in some:
                await self._register(place)
            await scripts.run(self._redis, *(relay_call(Keys(self._keys.namespace, place), batch) for place, batch in some))

    async def _register(self, place: str) -> None:
        if place not in self._known:
            await check_layout(self._redis, Keys(self._keys.namespace, place))
            await ask(self._redis, "SADD", catalogue(self._keys.namespace), place)
            self._known.add(place)


async def entries_of(redis: RedisClient, keys: Keys) -> AsyncIterator[Waiting]:
    """All entries, some at a time."""
    after = "-"
    while True:
        found = entries(await ask(redis, "XRANGE", keys.outbox, after, "+", "COUNT", RELAYED_AT_ONCE))
        for number, fields in found:
            yield Waiting(number.decode(), fields)
        if len(found) < RELAYED_AT_ONCE:
            return
        after = f"({found[-1][0].decode()}"


def _parted(fields: Mapping[bytes, bytes]) -> Homed:
    """The word of a member that is gone for good. Raises Invalid for what is none."""
    said: dict[str, str] = {}
    with suppress(UnicodeDecodeError):
        said = {name.decode(): value.decode() for name, value in fields.items()}
    if missing := {"home", "join", "at", "id", "why"} - said.keys():
        raise Invalid(f"not an entry of an outbox: it has no {', '.join(sorted(missing))}")
    fate = _FATES.get(said["why"], f"is gone ({said['why']})")  # a newer version may know other ends
    words = f"member {said['at']} of the group, task {said['id']}, {fate}: what was to follow cannot"
    return Homed(said["home"], Keyed("", part(said["join"], Failure("GroupBroken", words))))


def _key(entry: str, item: Item) -> str:
    """Under which it is performed once. Whoever arrives twice is counted once by the join."""
    match item:
        case Start(_, message):
            return f"{entry} {message.id}"
        case Join(_, standin):
            return f"{entry} join {standin.id}"
    return ""


def _batches(items: Iterable[Homed]) -> Iterator[tuple[str, list[Keyed]]]:
    """As many of one place at a time as one script may take."""
    by_place: dict[str, list[Keyed]] = {}
    for item in items:
        by_place.setdefault(item.place, []).append(item.keyed)
    for place, keyed in by_place.items():
        for batch in chunks(keyed, PERFORMED_AT_ONCE):
            yield place, list(batch)
