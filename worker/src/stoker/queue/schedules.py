"""Schedules (cron) of one queue: declaring them, starting due runs, pausing.

There is no scheduler process. Every worker looks for due runs, and so does the operator. The one that finds a due run computes the
next moment and passes both to one script, which starts the run and advances the schedule unless another process was faster.
"""

import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec
from msgspec.structs import replace

from stoker.clock import Clock, milliseconds, system
from stoker.errors import Invalid, NotFound
from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.redis.client import RedisClient, ask
from stoker.redis.replies import pairs
from stoker.rules.admission import limit_column
from stoker.rules.message import Message, encode
from stoker.rules.schedule import Definition, Overlap, Passing, Planned, first, passing, run_id

DUE_AT_ONCE = 50
MOST = 200
"""The most schedules that one source may declare for a queue."""
HOLD = 60.0
"""Seconds for which a declared list stands against lower versions; declaring it again renews this."""
TASKQUEUE = "taskqueue"
"""The source with precedence: a TaskQueue's schedule replaces one of the same name declared elsewhere."""
OVERRIDE = "override:"
"""The source of a schedule that a person has changed at run time is this and its name. It has precedence over code."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Definition)
_ACTS = {"pause": "pause", "resume": "resume", "remove": "delete"}


class ScheduleStatus(msgspec.Struct, frozen=True):
    """One schedule. Times in epoch ms. `definition` is None when a newer version of Stoker has written it.

    `next_run` is when the next run is due, None while suspended or paused. `last_run` is the id of the last run; `last_state` is
    "running" until its end was recorded. `skipped` counts moments at which the previous run had not ended, `missed` those at
    which no process was there to start the run.
    """

    name: str
    source: str
    definition: Definition | None
    paused: bool = False
    next_run: int | None = None
    last_run: str | None = None
    last_started: int | None = None
    last_state: str | None = None
    skipped: int = 0
    missed: int = 0


class KnownSchedule(NamedTuple):
    """A schedule whose definition this version can read."""

    definition: Definition
    status: ScheduleStatus


class Look(NamedTuple):
    """Runs started, schedules advanced, and seconds until the next run is due (None: no schedule waits for one)."""

    started: list[str]
    moved: int
    next_in: float | None


class Registered(NamedTuple):
    """`accepted` is False when a higher version of the source stands. `taken` are names that belong to another source."""

    accepted: bool
    taken: list[str]


Acted = Callable[[str, str], Awaitable[None]]
"""Called with each act of a person, and the name of the schedule."""


class Schedules:
    """The schedules of one queue. All methods raise RedisUnavailable or RedisRefused."""

    def __init__(self, redis: RedisClient, keys: Keys, clock: Clock = system, acted: Acted | None = None) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._acted = acted or _unrecorded

    async def now(self) -> int:
        """The queue's clock, epoch ms."""
        return int((await self._timetable(0))[0])

    async def register(self, source: str, version: int, definitions: Sequence[Definition], hold: float = HOLD) -> Registered:
        """Declare all schedules of a source; those it no longer lists are removed.

        Processes of several versions may declare a source during a rollout: the highest version wins, and stands against lower
        ones for `hold` seconds. A schedule whose timing has not changed keeps its next moment. Raises Invalid for more than MOST.
        """
        if len(definitions) > MOST:
            raise Invalid(f"{source} declares {len(definitions)} schedules for one queue, at most {MOST} are allowed")
        texts = [_encode(definition) for definition in definitions]
        listed = hashlib.sha256(b"\n".join(texts)).hexdigest()[:16]
        now = await self.now() if definitions else 0
        fields: list[Argument] = [source, version, listed, round(hold * 1000), int(_rules(source))]
        for definition, text in zip(definitions, texts, strict=True):
            planned = _first(definition, now)
            fields += [definition.name, text, _timing(definition), planned.moment, planned.due]
        [[accepted, *taken]] = await scripts.run(self._redis, ScriptCall("schedules", self._keys, fields))
        return Registered(bool(accepted), [name.decode() for name in taken])

    async def look(self) -> Look:
        """Start due runs."""
        now, next_due, *due = await self._timetable(DUE_AT_ONCE)
        entries: list[Argument] = []
        ids: list[str] = []
        for name, text, moment in zip(due[::3], due[1::3], due[2::3], strict=True):
            definition = read_definition(text)
            if definition is None or not moment.isdigit():
                continue  # damage, which the doctor reports, or written by a newer version
            passed = passing(definition, int(moment), now)
            ids.append(run_id(name.decode(), passed.run or int(moment)))
            entries += self._run(definition, text, int(moment), passed, ids[-1])
        answers = await self._start(entries) if entries else []
        started = [task_id for task_id, answer in zip(ids, answers, strict=True) if answer == "started"]
        moved = sum(answer != "stale" for answer in answers)
        return Look(started, moved, max(0, next_due - now) / 1000 if next_due >= 0 else None)

    async def run_now(self, name: str) -> str:
        """Start a run now, without changing the schedule's next moment. Returns its id. Raises NotFound."""
        text, definition = await self._definition(name)
        now = await self.now()
        task_id = f"{run_id(name, now)}-{os.urandom(3).hex()}"
        entry = self._run(definition, text, 0, Passing(now, 0, Planned(0, 0)), task_id, verb="now")
        [answer] = await self._start(entry)
        if answer == "stale":
            raise NotFound(f"schedule {name!r} of queue {self._keys.queue} was changed or removed just now")
        await self._acted("run schedule", name)
        return task_id

    async def pause(self, name: str) -> bool:
        """Start no runs until it is resumed. Returns False if it was paused already. Raises NotFound."""
        return await self._set(name, "pause", Planned(0, -1))

    async def resume(self, name: str) -> bool:
        """Wait for the next moment after now. Returns False if it was not paused. Raises NotFound."""
        _, definition = await self._definition(name)
        return await self._set(name, "resume", _first(definition, await self.now()))

    async def override(self, name: str, changes: Mapping[str, Any]) -> Definition:
        """Change the times of a schedule, as fields of its Timing, until `reset`: redeploys of its code leave it as it is.

        The rest stays as it is now. Returns the definition. Raises NotFound, and Invalid for bad times and for a schedule of the
        TaskQueue, which is changed there.
        """
        _, definition = await self._definition(name)
        if await self._source(name) == TASKQUEUE:
            raise Invalid(f"schedule {name!r} is declared by the TaskQueue of queue {self._keys.queue}: change its spec.schedules")
        changed = replace(definition, timing=replace(definition.timing, **changes))
        await self.register(OVERRIDE + name, await self.now(), [changed])
        await self._acted("set schedule", name)
        return changed

    async def reset(self, name: str) -> bool:
        """Drop what `override` has changed: the next worker that declares its schedules restores it, a running one within seconds.

        False where nothing was changed. Raises NotFound, and Invalid for a paused one, which would run again.
        """
        _, status = await self.one(name)
        if status.source != OVERRIDE + name:
            return False
        if status.paused:
            raise Invalid(f"schedule {name!r} is paused, and a reset would resume it: resume it first")
        await self.remove(name)
        return True

    async def remove(self, name: str) -> None:
        """Delete a schedule. It comes back if its source still declares it. Raises NotFound."""
        await self._set(name, "remove", Planned(0, -1))

    async def all(self) -> list[ScheduleStatus]:
        """All schedules of the queue, by name."""
        k = self._keys
        columns = pairs(await ask(self._redis, "HGETALL", k.schedules))
        upcoming = pairs(await ask(self._redis, "ZRANGE", k.upcoming, 0, -1, "WITHSCORES")) if columns else {}
        due = {name.decode(): int(float(score)) for name, score in upcoming.items()}
        fields = {field.decode(): value.decode() for field, value in columns.items()}
        names = sorted(field.removeprefix("definition ") for field in fields if field.startswith("definition "))
        return [_status(name, fields, due.get(name)) for name in names]

    async def one(self, name: str) -> KnownSchedule:
        """One schedule. Raises NotFound, and Invalid where a newer version has written it."""
        _, definition = await self._definition(name)
        [status] = [each for each in await self.all() if each.name == name] or [ScheduleStatus(name, "", definition)]
        return KnownSchedule(definition, status)

    async def _definition(self, name: str) -> tuple[bytes, Definition]:
        text: bytes | None = await ask(self._redis, "HGET", self._keys.schedules, f"definition {name}")
        if text is None:
            raise self._unknown(name)
        if (definition := read_definition(text)) is None:
            raise Invalid(f"schedule {name!r} was written by a newer version of Stoker: upgrade this program")
        return text, definition

    async def _source(self, name: str) -> str:
        owner: bytes | None = await ask(self._redis, "HGET", self._keys.schedules, f"owner {name}")
        return owner.decode() if owner else ""

    async def _set(self, name: str, verb: str, planned: Planned) -> bool:
        [answer] = await scripts.run(self._redis, ScriptCall("set_schedule", self._keys, [name, verb, *planned]))
        if answer < 0:
            raise self._unknown(name)
        if answer:
            await self._acted(f"{_ACTS[verb]} schedule", name)
        return bool(answer)

    async def _timetable(self, limit: int) -> Sequence[Any]:
        [reply] = await scripts.run(self._redis, ScriptCall("timetable", self._keys, [limit]))
        return cast(Sequence[Any], reply)

    async def _start(self, entries: Sequence[Argument]) -> list[str]:
        [answers] = await scripts.run(self._redis, ScriptCall("start_runs", self._keys, entries))
        return [answer.decode() for answer in answers]

    def _run(
        self, definition: Definition, text: bytes, moment: int, passed: Passing, task_id: str, *, verb: str = "run"
    ) -> list[Argument]:
        created = milliseconds(self._clock)
        message = Message(
            id=task_id,
            task=definition.task,
            payload=definition.payload,
            queue=self._keys.queue,
            created=created,
            priority=definition.priority,
            max_retries=definition.max_retries,
            timeout=definition.timeout,
            soft_timeout=definition.soft_timeout,
            retry=definition.retry,
            expires=round(created + 1000 * definition.expires) if definition.expires else None,
            headers=definition.headers,
            schedule=definition.name,
            scheduled_for=passed.run,
        )
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        overlap = int(definition.timing.overlap is Overlap.ALLOW)
        return [
            *(definition.name, sha, moment, "pass" if passed.run is None else verb, overlap, passed.missed),
            *(task_id, encode(message), definition.priority, limit_column(definition.limit), *passed.next),
        ]

    def _unknown(self, name: str) -> NotFound:
        return NotFound(f"queue {self._keys.queue!r} has no schedule {name!r}")


def read_definition(text: bytes) -> Definition | None:
    """A definition; None if this version, or its time zone data, cannot read it."""
    try:
        return _decode.decode(text)
    except (msgspec.MsgspecError, ValueError, Invalid):
        return None


async def _unrecorded(act: str, name: str) -> None:
    """For those who act for no person."""


def _rules(source: str) -> bool:
    """Whether a source may take a name from another one."""
    return source == TASKQUEUE or source.startswith(OVERRIDE)


def _first(definition: Definition, now: int) -> Planned:
    return Planned(0, -1) if definition.suspend else first(definition, now)


def _timing(definition: Definition) -> str:
    """All that decides when it runs: if this changes, the next moment is computed again."""
    timing = definition.timing
    return f"{timing.cron} {timing.time_zone} {timing.jitter:g} {definition.suspend}"


def _status(name: str, fields: dict[str, str], due: int | None) -> ScheduleStatus:
    def column(kind: str) -> str | None:
        return fields.get(f"{kind} {name}")

    last, started, ended = column("last"), column("started"), column("ended")
    return ScheduleStatus(
        name=name,
        source=column("owner") or "",
        definition=read_definition(fields[f"definition {name}"].encode()),
        paused=column("paused") is not None,
        next_run=due,
        last_run=last,
        last_started=int(started) if started else None,
        last_state=(ended.split()[0] if ended else "running") if last else None,
        skipped=int(column("skipped") or 0),
        missed=int(column("missed") or 0),
    )
