"""Schedules: declared, changed, paused, removed; looked at by one who is slow while another is faster."""

from msgspec import Raw

from stoker.rules.schedule import Definition, every
from tests.proof import model_schedules
from tests.proof.actions import answers
from tests.proof.model_schedules import Run
from tests.proof.steps import SECOND, step
from tests.proof.world import Pick, World

PERIODS = (20, 50)


def definitions(pick: Pick) -> list[Definition]:
    """Some of three, in one of several versions."""
    tick = Definition("tick", every(PERIODS[0]), "report", Raw(pick((b"{}", b"{}", b'{"day":1}'))))
    tock = Definition("tock", every(PERIODS[1], overlap="Allow", catch_up="None"), "report", priority=3)
    idle = Definition("idle", every(PERIODS[0]), "report", suspend=pick((True, False)))
    return pick(([tick, tock], [tick, tock], [tick], [tick, idle], [tock, idle], []))


@step(3)
def declare(world: World, pick: Pick) -> None:
    """An application starts and says which schedules it has."""
    wanted = definitions(pick)
    found = world.call(world.schedules.register("code", 1, wanted))
    answers(found.accepted, True)
    model_schedules.declare(world.model, wanted, world.now)


@step(6)
def look_at_the_clock(world: World, pick: Pick) -> None:
    """Time may go on, then somebody looks at what is due and starts it."""
    if not world.model.schedules:
        declare(world, Pick(()))
    world.pass_time(pick((0, 11 * SECOND, 21 * SECOND, 51 * SECOND, 700 * SECOND)))
    look(world)


def look(world: World) -> None:
    found = world.call(world.schedules.look())
    runs = model_schedules.due(world.model, world.now)
    _started(world, runs, model_schedules.start(world.model, runs, world.now), found.started, found.moved)


@step(3)
def look_slowly(world: World, pick: Pick) -> None:
    """One looks and is slow; others look, or change things, before it starts what it saw."""
    if not world.model.schedules:
        declare(world, Pick(()))
    world.pass_time(pick((21 * SECOND, 51 * SECOND, 0)))
    schedules = world.schedules
    schedules.slowly, schedules.pending = True, ([], [])
    world.call(schedules.look())
    schedules.slowly = False
    schedules.pending = schedules.pending[0], model_schedules.due(world.model, world.now)
    match pick(("nobody", "another", "changed")):
        case "another":
            look(world)
        case "changed":
            declare(world, pick)
    if pick((True, False)):
        start_at_last(world, pick)


@step(3)
def start_at_last(world: World, pick: Pick) -> None:
    """The slow one starts what it saw once; perhaps not for the first time."""
    runs = world.schedules.pending[1]
    found = world.call(world.schedules.start())
    expected = model_schedules.start(world.model, runs, world.now) if world.schedules.pending[0] else []
    _acknowledge(world, runs, expected)
    answers(found, expected)


def _started(world: World, runs: list[Run], became: list[str], started: list[str], moved: int) -> None:
    _acknowledge(world, runs, became)
    expected = [_id(run) for run, how in zip(runs, became, strict=True) if how == "started"]
    answers((started, moved), (expected, sum(how != "stale" for how in became)))


def _acknowledge(world: World, runs: list[Run], became: list[str]) -> None:
    for run, how in zip(runs, became, strict=True):
        if how == "started":
            world.ledger.acknowledged(_id(run), run.definition.priority, 0)


def _id(run: Run) -> str:
    return model_schedules.run_id(run.definition.name, run.run or run.moment)


@step(2)
def pause_a_schedule(world: World, pick: Pick) -> None:
    """Or let it go on."""
    if world.model.schedules:
        name = pick(sorted(world.model.schedules))
        if pick((True, False)):
            answers(world.call(world.schedules.pause(name)), model_schedules.pause(world.model, name))
        else:
            news = world.call(world.schedules.resume(name))
            answers(news, model_schedules.resume(world.model, name, world.now))


@step(1)
def remove_a_schedule(world: World, pick: Pick) -> None:
    if world.model.schedules:
        name = pick(sorted(world.model.schedules))
        world.call(world.schedules.remove(name))
        model_schedules.remove(world.model, name)


@step(2)
def run_a_schedule_now(world: World, pick: Pick) -> None:
    """A person starts a run, beside what the schedule waits for."""
    if world.model.schedules:
        name = pick(sorted(world.model.schedules))
        task_id = world.call(world.schedules.run_now(name))
        model_schedules.run_now(world.model, name, task_id, world.now)
        world.ledger.acknowledged(task_id, world.model.schedules[name].definition.priority, 0)
