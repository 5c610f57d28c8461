"""Joins: their counts are right, and every missing member still exists. A join whose member was deleted would never run."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from stoker.errors import Invalid
from stoker.queue import scripts
from stoker.queue.catalogue import Catalogue
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding, count
from stoker.queue.reads.doctor.steps import STEP
from stoker.queue.scripts import ScriptCall
from stoker.queue.workflows.effects import US, Keyed, relay_call
from stoker.queue.workflows.outbox import StoredEntry, entries_of
from stoker.redis.client import RedisClient, scan
from stoker.rules.dead_task import Burial
from stoker.rules.effects import BreakJoin
from stoker.rules.settle import Failure
from stoker.rules.workflow import MAX_MEMBERS, GroupStep, Steps

MEMBERS_AT_ONCE = 10_000
LOOKS, APART = 10, 0.1
"""A member counts as gone after LOOKS scans without it, APART seconds apart: a chain may move between queues during a scan."""
NAMED = 10


class Seen(NamedTuple):
    """Existing members of each join, by number; and joins that an entry in an outbox will set up with all their members."""

    members: dict[str, set[int]]
    begun: set[str]
    legible: bool


async def joins(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """Recount joins with a wrong count; break those whose members are gone, as if these had been purged."""
    sizes = await _sizes(redis, keys)
    for batch in _batches(sizes):
        call = ScriptCall("examine_joins", keys, [int(mend), *batch])
        [troubles] = await scripts.run(redis, call)
        for join, trouble in zip(batch, troubles, strict=True):
            if trouble:
                yield Finding(join, trouble.decode(), mend)
    for join, gone in (await _never_to_come(redis, keys, sorted(sizes))).items():
        numbers = ", ".join(map(str, sorted(gone)[:NAMED])) + (" ..." if len(gone) > NAMED else "")
        if mend:
            words = f"members {numbers} of the group are in no queue: what was to follow cannot"
            broken = BreakJoin(keys.queue, join, Failure("GroupBroken", words))
            await scripts.run(redis, relay_call(keys, [Keyed("", broken)]))
            await count(redis, keys)
        yield Finding(join, f"waits for members that no longer exist: {numbers}", mend)


async def _sizes(redis: RedisClient, k: Keys) -> dict[str, int]:
    """The joins of this partition, and the number of members of each."""
    sizes: dict[str, int] = {}
    async for join, waits in scan(redis, "HSCAN", k.waiting, STEP):
        sizes[join.decode()] = _whole(waits.rpartition(b" ")[2])
    async for join, row in scan(redis, "HSCAN", k.joins, STEP):
        sizes[join.decode()] = _whole(row.partition(US)[0])
    return sizes


def _batches(sizes: dict[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    room = MEMBERS_AT_ONCE
    for join, size in sizes.items():
        if batch and (room < size or len(batch) == STEP):
            yield batch
            batch, room = [], MEMBERS_AT_ONCE
        batch.append(join)
        room -= size
    if batch:
        yield batch


async def _never_to_come(redis: RedisClient, k: Keys, suspected: list[str]) -> dict[str, set[int]]:
    """Those of these joins that wait for members found in no queue in any of LOOKS scans."""
    gone: dict[str, set[int]] = {}
    for number in range(LOOKS):
        if not suspected:
            return {}
        if number:
            await asyncio.sleep(APART)
        seen = await _on_their_way(redis, k)
        if not seen.legible:  # an unreadable entry may hold the missing member; it is a finding itself
            return {}
        wanted = [join for join in suspected if join not in seen.begun]
        missing = await _missing(redis, k, wanted)
        gone = {join: numbers - seen.members.get(join, set()) for join, numbers in missing.items()}
        suspected = [join for join in suspected if gone.get(join)]
    return {join: gone[join] for join in suspected}


async def _missing(redis: RedisClient, k: Keys, names: list[str]) -> dict[str, set[int]]:
    """The numbers of missing members, of the joins that still wait. Asked after the scan for members."""
    found: dict[str, set[int]] = {}
    for at in range(0, len(names), STEP):
        some = names[at : at + STEP]
        replies = await scripts.run(redis, *(ScriptCall("missing", k, [join, MAX_MEMBERS]) for join in some))
        found |= {join: set(reply[2:]) for join, reply in zip(some, replies, strict=True)}
    return found


async def _on_their_way(redis: RedisClient, home: Keys) -> Seen:
    """Scan all queues: a member may be in another queue than its join."""
    seen = Seen({}, set(), legible=True)
    places = {*await Catalogue(redis, home.namespace).names(), home.queue}
    for k in (Keys(home.namespace, place) for place in sorted(places)):
        async for _, member in scan(redis, "HSCAN", k.members, STEP):
            _enter(seen, member.decode())
        async for _, row in scan(redis, "HSCAN", k.joins, STEP):
            _enter(seen, row.split(US, 3)[2].decode())  # groups within groups
        async for entry in entries_of(redis, k):
            try:
                _in_an_outbox(seen, entry)
            except Invalid:
                seen = seen._replace(legible=False)
    return seen


def _in_an_outbox(seen: Seen, stored: StoredEntry) -> None:
    entry = stored.read()
    if isinstance(entry, BreakJoin):
        _enter(seen, b" ".join(stored.fields[name] for name in (b"home", b"join", b"at")).decode())
        return
    if isinstance(entry, Burial):  # handlers belong to no group
        return
    if entry.member:
        _enter(seen, f"{entry.member.partition} {entry.member.join} {entry.member.at}")
    seen.begun.update(_begun(entry.steps))


def _begun(steps: Steps) -> Iterator[str]:
    """The joins that the first step of this chain sets up."""
    if steps and isinstance(step := steps[0], GroupStep):
        yield step.id
        for chain in step.members or (steps[1:],):
            yield from _begun(chain)


def _enter(seen: Seen, member: str) -> None:
    """Adds a member, "partition join number"."""
    match member.split(" "):
        case [_, join, at]:
            seen.members.setdefault(join, set()).add(_whole(at))


def _whole(text: str | bytes) -> int:
    return int(text) if text.isdigit() else 0
