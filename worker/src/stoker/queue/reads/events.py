"""Follow the events of a queue. Scripts record events only while they are watched from here."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import ScriptCall, chunks
from stoker.redis.client import RedisClient, ask, ask_alone
from stoker.redis.replies import entries
from stoker.rules.history import Event, what_of
from stoker.rules.message import decode

AUDIENCE = 15.0
"""Seconds for which events are recorded after the last `attend`."""
ATTEND_EVERY = 4.0
"""Seconds."""
KEPT = 600.0
"""Seconds after the last `attend` until the stream expires."""
AT_ONCE = 200
NAMED_AT_ONCE = 20
LONGEST_WAIT = 1.0
BEGINNING = "0-0"


async def follow_all(redis: RedisClient, partitions: Sequence[Keys], after: str | None = None) -> AsyncGenerator[Event, None]:
    """Events of all partitions of a queue, in order within each. Positions are times, so one position fits all partitions."""
    received: asyncio.Queue[Event | BaseException] = asyncio.Queue(AT_ONCE)

    async def listen(keys: Keys) -> None:
        try:
            async for event in follow(redis, keys, after):
                await received.put(event)
        except Exception as error:
            await received.put(error)

    listeners = [asyncio.create_task(listen(keys)) for keys in partitions]
    try:
        while True:
            item = await received.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        for listener in listeners:
            listener.cancel()
        await asyncio.wait(listeners, timeout=2 * LONGEST_WAIT)


async def follow(redis: RedisClient, keys: Keys, after: str | None = None) -> AsyncGenerator[Event, None]:
    """Events after the position `after`, or from now on. Never ends by itself.

    A reader that takes longer than AUDIENCE for one event misses those that happen afterwards.
    """
    position, signed = after, float("-inf")
    while True:
        if time.monotonic() - signed >= ATTEND_EVERY:
            newest = await attend(redis, keys)
            signed = time.monotonic()
            # A stream that ends before our position is a new one: the old one expired, or the server failed over.
            position = newest if position is None or _number(newest) < _number(position) else position
        for event in await _next(redis, keys, position or BEGINNING):
            position = event.position
            yield event


async def attend(redis: RedisClient, keys: Keys) -> str:
    """Record events for the next AUDIENCE seconds. Returns the position of the newest one."""
    call = ScriptCall("attend", keys, [round(AUDIENCE * 1000), round(KEPT * 1000)])
    [newest] = await scripts.run(redis, call)
    return str(newest.decode())


async def latest(redis: RedisClient, keys: Keys, limit: int) -> list[Event]:
    """The last recorded events, oldest first."""
    found = await ask(redis, "XREVRANGE", keys.events, "+", "-", "COUNT", limit)
    return await _named(redis, keys, [_event(*entry) for entry in reversed(entries(found))])


async def _next(redis: RedisClient, keys: Keys, position: str) -> list[Event]:
    """Wait up to LONGEST_WAIT for events after a position, on a connection that is not shared."""
    command = ("XREAD", "COUNT", AT_ONCE, "BLOCK", round(LONGEST_WAIT * 1000), "STREAMS", keys.events, position)
    streams = await ask_alone(redis, keys.events, *command, blocks=LONGEST_WAIT)
    return await _named(redis, keys, [_event(*entry) for _, found in streams or () for entry in entries(found)])


async def _named(redis: RedisClient, keys: Keys, events: Sequence[Event]) -> list[Event]:
    """Adds the names of the tasks."""
    ids = list(dict.fromkeys(event.id for event in events if event.id))
    if not ids:
        return list(events)
    envelopes = [envelope for part in chunks(ids, NAMED_AT_ONCE) for envelope in await ask(redis, "HMGET", keys.tasks, *part)]
    names = {task_id: _name(envelope) for task_id, envelope in zip(ids, envelopes, strict=True)}
    return [
        Event(event.position, event.at, event.what, event.id, names.get(event.id), event.worker, event.detail) for event in events
    ]


def _name(envelope: bytes | None) -> str | None:
    try:
        return decode(envelope).task if envelope else None
    except Invalid:
        return None


def _event(position: bytes, fields: dict[bytes, bytes]) -> Event:
    named = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    where = position.decode()
    return Event(
        where,
        _number(where)[0],
        what_of(named["what"]),
        named.get("id", ""),
        worker=named.get("worker"),
        detail=named.get("detail"),
    )


def _number(position: str) -> tuple[int, int]:
    """Both numbers of a position. Raises Invalid."""
    first, _, second = position.partition("-")
    try:
        return int(first), int(second or 0)
    except ValueError:
        raise Invalid(f"bad position {position!r}: use the one of an event, or {BEGINNING}") from None
