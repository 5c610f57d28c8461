"""The inbox of a queue: a stream to which any program may XADD a task, without a library.

The minder takes entries in: they are read and checked here, and moved by a script, which moves each of them once. What is larger
than any task is not read: its dead task shows the beginning.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from stoker.clock import Clock, milliseconds, system
from stoker.queue import scripts
from stoker.queue.broker import same_as
from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.redis.client import RedisClient
from stoker.redis.replies import pairs
from stoker.rules.admission import Admission, marks
from stoker.rules.inbox_entry import MAX_ENTRY_BYTES, MAX_FIELDS, Arrival, id_of_entry, oversized, read_entry
from stoker.rules.message import encode
from stoker.rules.settle import Failure
from stoker.rules.units import to_ms

TAKEN_IN_AT_ONCE = 50
BYTES_AT_ONCE = 1024 * 1024
MOST = (MAX_ENTRY_BYTES, MAX_FIELDS)
SHOWN = (10, 200)
"""Fields of an oversized entry that its dead task shows, and the bytes of each."""
_WORDS = frozenset({b"ready", b"scheduled", b"dead", b"dropped", b"gone"})


class TakenIn(NamedTuple):
    """Entries read, how many became tasks, and the ids of those that became dead tasks."""

    read: int
    added: int
    buried: list[str]


class Inbox:
    """The inbox of one queue. Raises RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, keys: Keys, clock: Clock = system) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock

    async def take_in(self) -> TakenIn:
        """Move the oldest entries into the queue: at most TAKEN_IN_AT_ONCE, of about BYTES_AT_ONCE. At maxmemory too."""
        call = ScriptCall("read_inbox", self._keys, [TAKEN_IN_AT_ONCE, BYTES_AT_ONCE, *MOST, *SHOWN])
        [found] = await scripts.run(self._redis, call)
        if not found:
            return TakenIn(0, 0, [])
        created = milliseconds(self._clock)
        queue = self._keys.queue.partition(":")[0]  # without the number of a partition
        arrivals = {
            entry.decode(): _arrival(entry.decode(), size, count, pairs(flat), queue, created) for entry, size, count, flat in found
        }
        answers = await self._move({entry: (_verb(arrival), arrival) for entry, arrival in arrivals.items()})
        existing = {entry: envelope for entry, envelope in answers.items() if envelope not in _WORDS}
        if existing:
            again = {entry: _resolve_conflict(entry, arrivals[entry], envelope) for entry, envelope in existing.items()}
            arrivals |= {entry: arrival for entry, (_, arrival) in again.items()}
            answers |= await self._move(again)
        added = sum(answer in (b"ready", b"scheduled") for answer in answers.values())
        return TakenIn(len(found), added, [arrivals[entry].id for entry, answer in answers.items() if answer == b"dead"])

    async def _move(self, arrivals: dict[str, tuple[str, Arrival]]) -> dict[str, bytes]:
        [answers] = await scripts.run(self._redis, intake_call(self._keys, arrivals))
        return dict(zip(arrivals, answers, strict=True))


def intake_call(keys: Keys, arrivals: Mapping[str, tuple[str, Arrival]], stream: str = "inbox") -> ScriptCall:
    """Take entries out of a stream ("inbox", "outbox"); each becomes a task or dead, as its verb (see `intake.lua`) says."""
    fields = (field for entry, (verb, arrival) in arrivals.items() for field in _fields(entry, verb, arrival))
    return ScriptCall("intake", keys, [stream, *fields])


def _arrival(entry: str, size: int, count: int, fields: Mapping[bytes, bytes], queue: str, created: int) -> Arrival:
    if size > MAX_ENTRY_BYTES or count > MAX_FIELDS:
        return oversized(entry, fields, size, count, queue, created)
    return read_entry(entry, fields, queue, created)


def _verb(arrival: Arrival) -> str:
    return "bury" if arrival.failure else "add"


def _resolve_conflict(entry: str, arrival: Arrival, envelope: bytes) -> tuple[str, Arrival]:
    """The verb for an entry whose id exists: the same task is dropped, another one is buried under a new id, not lost."""
    message = arrival.admission.message
    if not arrival.failure and same_as(message, envelope):
        return "drop", arrival
    spare = msgspec.structs.replace(message, id=f"{id_of_entry(entry)}-{os.urandom(4).hex()}")
    words = f"task id {message.id!r} was taken by another task when this one came through the inbox"
    return "bury", Arrival(Admission(spare), arrival.failure or Failure("Conflict", words))


def _fields(entry: str, verb: str, arrival: Arrival) -> tuple[Argument, ...]:
    admission, message = arrival.admission, arrival.admission.message
    when = (to_ms(admission.delay), to_ms(admission.run_at))
    why = msgspec.json.encode(arrival.failure) if arrival.failure else b""
    return (entry, verb, message.id, encode(message), message.priority, *when, why, *marks(admission.claim, admission.limit))
