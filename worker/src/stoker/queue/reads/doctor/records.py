"""Records beside the tasks: each key is of its type, and every value is one that some reader takes.

The engine itself mends what it overwrites; what it never overwrites would stay, and take memory, until a person deletes it.
"""

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import msgspec

from stoker.autoscale.scaling_record import decode_record
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding, count
from stoker.queue.reads.doctor.steps import in_steps
from stoker.queue.scripts import Argument, ScriptCall
from stoker.queue.tallies import PLACES
from stoker.redis.client import RedisClient, ask, scan
from stoker.rules.announcement import is_description, is_hook, is_names
from stoker.rules.audit import decode_act
from stoker.rules.partitions import is_first
from stoker.rules.tally import is_slot, is_version

AT_ONCE = 20
"""Values of one call: the script compares each with what is there."""
ENTRIES_AT_ONCE = 100


class _Format(msgspec.Struct):
    v: int


_format = msgspec.json.Decoder(_Format)


class Record(NamedTuple):
    """A record: its key (an attribute of `Keys`), its type, and which fields and values (of a stream: of an entry) are readable."""

    name: str
    kind: str
    readable: Callable[[bytes, bytes], bool]


RECORDS = (
    Record("minutes", "hash", lambda field, value: is_slot(field, value, PLACES)),
    Record("versions", "hash", is_version),
    Record("announced", "hash", lambda _, value: is_names(value)),
    Record("schemas", "hash", lambda _, value: is_description(value)),
    Record("hooks", "hash", lambda _, value: is_hook(value)),
    Record("decisions", "stream", lambda field, value: field == b"e" and (is_newer(value) or decode_record(value, 0) is not None)),
    Record("audit", "stream", lambda field, value: field == b"e" and (is_newer(value) or decode_act(value, 0) is not None)),
)


def is_newer(value: bytes) -> bool:
    """Whether a newer version has written this entry of a logbook."""
    try:
        return _format.decode(value).v > 1
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


async def records(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """Remove a key of another type, and values that cannot be read; those that a newer version has written stay."""
    for record in RECORDS:
        [[wrong]] = await scripts.run(redis, ScriptCall("examine_records", keys, [int(mend), record.name, record.kind]))
        if wrong:
            yield Finding(record.name, f"is no {record.kind}: nothing can be recorded", mend)
            continue
        values = _hash_values(redis, keys, record) if record.kind == "hash" else _entries(redis, keys, record)
        async for batch in in_steps(values, lambda pair: pair[0]):
            for finding in await _judge(redis, keys, record, batch, mend=mend):
                yield finding
    if is_first(keys.queue) and await ask(redis, "TYPE", keys.operations) not in (b"hash", b"none"):
        if mend:
            await ask(redis, "UNLINK", keys.operations)
            await count(redis, keys)
        yield Finding("operations", "is no hash: nothing can be recorded", mend)


async def _judge(redis: RedisClient, k: Keys, record: Record, batch: list[tuple[bytes, bytes]], *, mend: bool) -> list[Finding]:
    found = []
    for at in range(0, len(batch), AT_ONCE):
        some = batch[at : at + AT_ONCE]
        arguments: list[Argument] = [int(mend), record.name, record.kind, *(part for pair in some for part in pair)]
        [[_, *there]] = await scripts.run(redis, ScriptCall("examine_records", k, arguments))
        names = [f"{record.name} {field.decode(errors='replace')[:100]}" for field, _ in some]
        found += [Finding(name, "record that cannot be read", mend) for name, is_so in zip(names, there, strict=False) if is_so]
    return found


async def _hash_values(redis: RedisClient, k: Keys, record: Record) -> AsyncIterator[tuple[bytes, bytes]]:
    """Fields and values that no reader takes."""
    async for field, value in scan(redis, "HSCAN", getattr(k, record.name), AT_ONCE):
        if not record.readable(field, value):
            yield field, value


async def _entries(redis: RedisClient, k: Keys, record: Record) -> AsyncIterator[tuple[bytes, bytes]]:
    """Ids of entries that no reader takes."""
    start = b"-"
    while entries := await ask(redis, "XRANGE", getattr(k, record.name), start, "+", "COUNT", ENTRIES_AT_ONCE):
        for entry, fields in entries:
            if not record.readable(fields[0], fields[1]):
                yield entry, b""
        start = b"(" + entries[-1][0]
