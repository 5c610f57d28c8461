"""The log of what happens in a queue. It is written only while somebody reads it here, so it costs nothing otherwise."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient, ask, ask_alone
from stoker.redis.replies import entries
from stoker.rules.history import Event, what_of
from stoker.rules.message import decode

AUDIENCE = 15.0
"""Seconds for which events are written after the last sign of somebody who reads them."""
STILL_HERE = 4.0
"""Seconds between those signs."""
KEPT = 600.0
"""Seconds for which the log lasts after the last of them."""
AT_ONCE = 200
LONGEST_WAIT = 1.0
BEGINNING = "0-0"


async def follow_all(redis: RedisClient, places: Sequence[Keys], after: str | None = None) -> AsyncGenerator[Event, None]:
    """Events of a queue with all its partitions. Those of one partition come in order; positions are moments, so they fit all."""
    heard: asyncio.Queue[Event | BaseException] = asyncio.Queue(AT_ONCE)

    async def listen(keys: Keys) -> None:
        try:
            async for event in follow(redis, keys, after):
                await heard.put(event)
        except Exception as error:
            await heard.put(error)

    listeners = [asyncio.create_task(listen(keys)) for keys in places]
    try:
        while True:
            item = await heard.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        for listener in listeners:
            listener.cancel()
        await asyncio.wait(listeners, timeout=2 * LONGEST_WAIT)


async def follow(redis: RedisClient, keys: Keys, after: str | None = None) -> AsyncGenerator[Event, None]:
    """Events as they come, for ever: those after the one at position `after`, or from now on.

    Whoever takes longer than AUDIENCE for one event misses what happens meanwhile.
    """
    position, signed = after, float("-inf")
    while True:
        if time.monotonic() - signed >= STILL_HERE:
            newest = await attend(redis, keys)
            signed = time.monotonic()
            # A log that ends before our place in it is another one: it was gone, or its server failed over.
            position = newest if position is None or _number(newest) < _number(position) else position
        for event in await _next(redis, keys, position or BEGINNING):
            position = event.position
            yield event


async def attend(redis: RedisClient, keys: Keys) -> str:
    """Have events written for the next AUDIENCE seconds. Returns the position of the newest."""
    call = ScriptCall("attend", keys, [round(AUDIENCE * 1000), round(KEPT * 1000)])
    [newest] = await scripts.run(redis, call)
    return str(newest.decode())


async def latest(redis: RedisClient, keys: Keys, limit: int) -> list[Event]:
    """The last of those that are in the log, oldest first."""
    found = await ask(redis, "XREVRANGE", keys.events, "+", "-", "COUNT", limit)
    return await _named(redis, keys, [_event(*entry) for entry in reversed(entries(found))])


async def _next(redis: RedisClient, keys: Keys, position: str) -> list[Event]:
    """Wait for some, on a connection that is nobody else's meanwhile."""
    command = ("XREAD", "COUNT", AT_ONCE, "BLOCK", round(LONGEST_WAIT * 1000), "STREAMS", keys.events, position)
    streams = await ask_alone(redis, keys.events, *command, blocks=LONGEST_WAIT)
    return await _named(redis, keys, [_event(*entry) for _, found in streams or () for entry in entries(found)])


async def _named(redis: RedisClient, keys: Keys, events: Sequence[Event]) -> list[Event]:
    """With the names of their tasks."""
    ids = list(dict.fromkeys(event.id for event in events if event.id))
    if not ids:
        return list(events)
    envelopes = await ask(redis, "HMGET", keys.tasks, *ids)
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
    told = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    where = position.decode()
    return Event(
        where,
        _number(where)[0],
        what_of(told["what"]),
        told.get("id", ""),
        worker=told.get("worker"),
        detail=told.get("detail"),
    )


def _number(position: str) -> tuple[int, int]:
    """Raises Invalid for what is no position of a log."""
    first, _, second = position.partition("-")
    try:
        return int(first), int(second or 0)
    except ValueError:
        raise Invalid(f"bad position {position!r}: take the one of an event that was read, or {BEGINNING}") from None
