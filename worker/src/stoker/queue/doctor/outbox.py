"""The outbox: what lies there can be relayed, and has been before long."""

from collections.abc import AsyncIterator

import msgspec

from stoker.clock import milliseconds, system
from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.connection import RedisClient
from stoker.queue.doctor.finding import Finding, count
from stoker.queue.doctor.wake import look
from stoker.queue.keys import Keys
from stoker.queue.outbox import Outbox, Waiting, entries_of
from stoker.queue.scripts import Argument, Call
from stoker.rules.entry import dead_letter
from stoker.rules.message import encode

UNREADABLE = "(unreadable entry of the outbox)"
LATE = 60.0
"""Seconds after which an entry should have been relayed: every worker looks about once a second."""


async def outbox(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """An entry that nobody can read becomes a dead letter with all that it holds; one that lies there for long is relayed."""
    now, _ = await look(redis, keys)
    async for entry in entries_of(redis, keys):
        try:
            entry.check()
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


def name_of(entry: Waiting) -> str:
    """What it is called, also as a dead letter."""
    return f"outbox-{entry.number}"


async def _bury(redis: RedisClient, k: Keys, entry: Waiting, error: Invalid) -> bool:
    """Make it a dead letter, unless another has taken it away meanwhile."""
    message, _, failure = dead_letter(name_of(entry), UNREADABLE, entry.fields, k.queue, milliseconds(system), str(error))
    keys = (k.outbox, k.tasks, k.ready, k.scheduled, k.dead, k.levels, k.errors, k.meta, k.stats, k.wake, k.events)
    fields: list[Argument] = [entry.number, "bury", message.id, encode(message), 0, 0, msgspec.json.encode(failure)]
    [[answer]] = await scripts.run(redis, Call("intake", keys, fields))
    if answer == b"dead":
        await count(redis, k)
    return bool(answer == b"dead")
