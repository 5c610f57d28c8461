"""A person or a worker wants to forget the queue. Imported by `histories.py`."""

from stoker.queue.scripts import ScriptCall, run
from stoker.rules.states import TaskState
from tests.proof.actions import answers
from tests.proof.steps import PLACES, SECOND, purge_all, step
from tests.proof.world import Pick, World


@step(4)
def forget_the_queue(world: World, pick: Pick) -> None:
    """One that is in use says by what, and stays. One that is not is only looked at: with it time would begin again."""
    for state in PLACES if pick((True, False)) else ():
        if state is not TaskState.RUNNING:
            purge_all(world, state)
    if pick((True, False)):
        world.pass_time(world.rules.lease + SECOND)
    [use] = world.call(run(world.client, ScriptCall("forget", world.keys, ["look", 0])))
    answers(use.decode(), what_uses(world))
    if use:
        [use] = world.call(run(world.client, ScriptCall("forget", world.keys, ["forget", 0])))
        answers(use.decode(), what_uses(world))
        world.nothing_changed()


def what_uses(world: World) -> str:
    """What keeps the queue in use, by the model; what the model knows nothing of, by the keys."""
    picture, keys, model = world.picture, world.keys, world.model
    if any(until >= world.now for until in picture.zset(keys.beats).values()):
        return "workers"
    streams_and_joins = (keys.inbox, keys.outbox, keys.joins, keys.waiting, keys.arrivals)
    if model.items or any(picture.length(key) for key in streams_and_joins):
        return "tasks"
    if any(picture.length(key) for key in (keys.schedules, keys.upcoming, keys.runs)):
        return "schedules"
    return "claim" if model.holder else ""
