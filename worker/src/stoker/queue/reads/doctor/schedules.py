"""Schedules: each waits for one next run, or is paused or suspended, and a removed one has left nothing behind."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.doctor.wake import look
from stoker.queue.schedules import read_definition
from stoker.queue.scripts import Argument, ScriptCall
from stoker.redis.client import RedisClient, ask
from stoker.redis.replies import pairs
from stoker.rules.schedule import Definition, Planned, first, planned

ROUNDING = 1
"""ms by which a run may be due later than its moment plus jitter."""
SOURCE = "source"


class ScheduleRow(NamedTuple):
    """One schedule as it was read; empty where a column is absent."""

    definition: bytes
    paused: bool
    moment: str
    due: str


class Remedy(NamedTuple):
    """What is wrong with a schedule, and the repair: see lua/examine_schedules.lua."""

    trouble: str
    verb: str
    planned: Planned = Planned(0, 0)


async def schedules(redis: RedisClient, keys: Keys, *, mend: bool) -> AsyncIterator[Finding]:
    """A schedule that waits for nothing gets its next moment. The script repairs only what is still as it was read here."""
    states = await _states(redis, keys)
    if not states:
        return
    now, _ = await look(redis, keys)
    wrong = {name: remedy for name, state in states.items() if (remedy := judge(state, now))}
    arguments: list[Argument] = [int(mend)]
    for name, remedy in wrong.items():
        definition, paused, moment, due = states[name]
        arguments += [name, definition, int(paused), moment, due, remedy.verb, *remedy.planned]
    call = ScriptCall("examine_schedules", keys, arguments)
    [true] = await scripts.run(redis, call)
    for (name, remedy), is_so in zip(wrong.items(), true, strict=True):
        if is_so:
            yield Finding(name, remedy.trouble, mend)


def judge(state: ScheduleRow, now: int) -> Remedy | None:
    """What is wrong with a schedule; None if nothing is."""
    if not state.definition:
        return Remedy("left behind by a removed schedule", "forget")
    definition = read_definition(state.definition)
    if state.paused and state.due:
        return Remedy("has a next run, though paused", "hold")
    if state.paused or definition is None:  # written by a newer version
        return None
    if definition.suspend:
        return Remedy("has a next run, though suspended", "hold") if state.due else None
    if not state.due:
        return Remedy("has no next run, though not paused", "wait", first(definition, now))
    return _untimely(definition, state)


def _untimely(definition: Definition, state: ScheduleRow) -> Remedy | None:
    if not state.moment.isdigit():
        return Remedy("next run without a moment", "wait", planned(definition, int(float(state.due))))
    moment, due = int(state.moment), float(state.due)
    if moment <= due <= moment + definition.timing.jitter * 1000 + ROUNDING:
        return None
    return Remedy("next run at another time than its moment", "wait", planned(definition, moment))


async def _states(redis: RedisClient, k: Keys) -> dict[str, ScheduleRow]:
    columns = {field.decode(): value for field, value in pairs(await ask(redis, "HGETALL", k.schedules)).items()}
    upcoming = pairs(await ask(redis, "ZRANGE", k.upcoming, 0, -1, "WITHSCORES"))
    runs = await ask(redis, "HKEYS", k.runs)
    due = {name.decode(): f"{float(score):.0f}" for name, score in upcoming.items()}
    names = {field.partition(" ")[2] for field in columns if not field.startswith(f"{SOURCE} ")}
    return {
        name: ScheduleRow(
            columns.get(f"definition {name}", b""),
            f"paused {name}" in columns,
            columns.get(f"moment {name}", b"").decode(),
            due.get(name, ""),
        )
        for name in sorted(names | due.keys() | {name.decode() for name in runs})
    }
