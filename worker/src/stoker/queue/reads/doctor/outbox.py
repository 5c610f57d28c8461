"""The outbox: every entry can be relayed, and none is old."""

from collections.abc import AsyncIterator

from stoker.clock import milliseconds, system
from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.inbox import intake_call
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding, count
from stoker.queue.reads.doctor.wake import look
from stoker.queue.workflows.outbox import Outbox, StoredEntry, entries_of
from stoker.redis.client import RedisClient
from stoker.rules.inbox_entry import dead_letter

UNREADABLE = "(unreadable entry of the outbox)"
LATE = 60.0
"""Seconds after which an entry should have been relayed: every worker relays about once a second."""


async def outbox(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """Turn an unreadable entry into a dead task with all its fields; relay an old one."""
    now, _ = await look(redis, keys)
    async for entry in entries_of(redis, keys):
        try:
            entry.read()
        except Invalid as error:
            buried = mend and await _bury(redis, keys, entry, error)
            yield Finding(name_of(entry), f"cannot be relayed: {error}", buried)
            continue
        late = (now - int(entry.number.partition("-")[0])) / 1000
        if late > LATE:
            if mend:
                await Outbox(redis, keys).relay([entry])
                await count(redis, keys)
            yield Finding(name_of(entry), f"was not relayed for {late:.0f} s", mend)


def name_of(entry: StoredEntry) -> str:
    """The id of an entry, in a finding and as a dead task."""
    return f"outbox-{entry.number}"


async def _bury(redis: RedisClient, k: Keys, entry: StoredEntry, error: Invalid) -> bool:
    """Make an entry a dead task. False if it was removed meanwhile."""
    letter = dead_letter(name_of(entry), UNREADABLE, entry.fields, k.queue, milliseconds(system), str(error))
    [[answer]] = await scripts.run(redis, intake_call(k, {entry.number: ("bury", letter)}, "outbox"))
    if answer == b"dead":
        await count(redis, k)
    return bool(answer == b"dead")
