"""Schedules, said a second time: when runs are due, who starts them, what becomes of moments that nobody saw. Part of the model.

The periods are whole, so that moments are the multiples of them.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stoker.queue.keys import Keys
from stoker.rules.message import Message, encode
from stoker.rules.schedule import CatchUp, Definition, Overlap, run_id
from tests.engine.line import QUEUE
from tests.proof.model_time import Now

if TYPE_CHECKING:
    from tests.proof.model import Model

LATE = 60_000
COUNTED = 1000
CREATED = 1_800_000_000_000


class Run(NamedTuple):
    """What somebody who has looked will do: `moment` is what the schedule waited for, `run` the one to run (None: missed)."""

    definition: Definition
    moment: int
    run: int | None
    missed: int
    next: int


@dataclass(slots=True)
class Schedule:
    """One schedule. `moment` is that of the next run, `waits` whether it waits for it."""

    definition: Definition
    moment: int | None = None
    waits: bool = False
    paused: bool = False
    last: str | None = None
    ended: str | None = None
    skipped: int = 0
    missed: int = 0

    @property
    def period(self) -> int:
        return int(self.definition.timing.cron.removeprefix("@every ").removesuffix("s")) * 1000

    def following(self, moment: int) -> int:
        return (moment // self.period + 1) * self.period

    def wait(self, now: int) -> None:
        self.moment, self.waits = self.following(now), True


def declare(model: "Model", definitions: list[Definition], now: Now) -> None:
    """All the schedules of the one source there is."""
    if definitions:
        note_ends(model)
    for name in model.schedules.keys() - {definition.name for definition in definitions}:
        remove(model, name)
    for definition in definitions:
        known = model.schedules.get(definition.name)
        schedule = model.schedules.setdefault(definition.name, Schedule(definition))
        changed = known is None or _timing(known.definition) != _timing(definition)
        schedule.definition = definition
        if definition.suspend or schedule.paused:
            schedule.waits = False
        elif changed or not schedule.waits:
            schedule.wait(now.wall)


def _timing(definition: Definition) -> tuple[object, ...]:
    return definition.timing.cron, definition.timing.time_zone, definition.timing.jitter, definition.suspend


def remove(model: "Model", name: str) -> None:
    del model.schedules[name]
    model.runs.pop(name, None)


def pause(model: "Model", name: str) -> bool:
    schedule = model.schedules[name]
    news, schedule.paused, schedule.waits = not schedule.paused, True, False
    return news


def resume(model: "Model", name: str, now: Now) -> bool:
    note_ends(model)
    schedule = model.schedules[name]
    news, schedule.paused = schedule.paused, False
    if news and not schedule.definition.suspend:
        schedule.wait(now.wall)
    return news


def note_ends(model: "Model") -> None:
    """Runs that have ended are over, also when they are forgotten."""
    for name, task_id in list(model.runs.items()):
        if how := _end(model, task_id):
            model.schedules[name].ended = how
            del model.runs[name]


def _end(model: "Model", task_id: str) -> str | None:
    item = model.items.get(task_id)
    return {"done": "succeeded", "dead": "dead", "cancelled": "cancelled"}.get(item.place) if item else "forgotten"


def due(model: "Model", now: Now) -> list[Run]:
    """What somebody who looks now has to do."""
    note_ends(model)
    found = []
    waiting = [(schedule.moment or 0, name) for name, schedule in model.schedules.items() if schedule.waits]
    for moment, name in sorted(waiting):
        if moment > now.wall:
            continue
        schedule = model.schedules[name]
        last = now.wall - now.wall % schedule.period
        missed = (last - moment) // schedule.period
        too_late = schedule.definition.timing.catch_up is CatchUp.NONE and now.wall - last > LATE
        found.append(
            Run(schedule.definition, moment, None if too_late else last, min(missed, COUNTED) + too_late, last + schedule.period)
        )
    return found


def start(model: "Model", runs: list[Run], now: Now) -> list[str]:
    """Returns what became of each."""
    answers = []
    for run in runs:
        name = run.definition.name
        schedule = model.schedules.get(name)
        if schedule is None or schedule.definition != run.definition or not schedule.waits or schedule.moment != run.moment:
            answers.append("stale")
            continue
        if run.run is None:
            answers.append("passed")
        elif _open(model, name) and run.definition.timing.overlap is Overlap.SKIP:
            answers.append("skipped")
            schedule.skipped += 1
        else:
            answers.append(_begin(model, schedule, run_id(name, run.run), run.run, now))
            if answers[-1] == "started":
                _is_last(model, schedule, run_id(name, run.run))
        schedule.missed += run.missed
        schedule.moment = run.next
    return answers


def run_now(model: "Model", name: str, task_id: str, now: Now) -> None:
    note_ends(model)
    schedule = model.schedules[name]
    was_open = _open(model, name)
    if _begin(model, schedule, task_id, now.wall, now) == "started" and not was_open:
        _is_last(model, schedule, task_id)


def _open(model: "Model", name: str) -> bool:
    return name in model.runs and _end(model, model.runs[name]) is None


def _is_last(model: "Model", schedule: Schedule, task_id: str) -> None:
    schedule.last, schedule.ended = task_id, None
    model.runs[schedule.definition.name] = task_id


def _begin(model: "Model", schedule: Schedule, task_id: str, moment: int, now: Now) -> str:
    its = schedule.definition
    message = Message(task_id, its.task, its.payload, QUEUE, CREATED, its.priority, schedule=its.name, scheduled_for=moment)
    if task_id in model.items:
        return "there already"
    model.enqueue([model.wish(task_id, encode(message), its.priority, 0, 0, None)], now)
    return "started"


def expected(model: "Model", keys: Keys) -> dict[str, dict[str, object]]:
    """What the keys of schedules hold. Of the columns those that say what it waits for and what became of moments."""
    columns: dict[str, object] = {}
    for name, schedule in model.schedules.items():
        wanted = {
            "moment": schedule.moment,
            "paused": schedule.paused or None,
            "last": schedule.last,
            "ended": schedule.ended,
            "skipped": schedule.skipped or None,
            "missed": schedule.missed or None,
        }
        columns |= {f"{column} {name}": value for column, value in wanted.items() if value is not None}
    return {
        keys.schedules: columns,
        keys.upcoming: {name: schedule.moment for name, schedule in model.schedules.items() if schedule.waits},
        keys.runs: dict(model.runs),
    }


def copies(schedules: dict[str, Schedule]) -> dict[str, Schedule]:
    return {name: dataclasses.replace(schedule) for name, schedule in schedules.items()}
