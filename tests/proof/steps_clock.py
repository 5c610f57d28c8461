"""What becomes of time: hours in which nobody calls, a clock that is wrong for a moment. Imported by `histories.py`."""

from stoker.rules.admission import Admission
from stoker.rules.states import TaskState
from tests.engine.line import message
from tests.proof.actions import offer
from tests.proof.steps import HOUR, LATER, SECOND, STEPS, purge_all, step
from tests.proof.world import Pick, World


@step(2)
def nobody_looks(world: World, pick: Pick) -> None:
    world.idle(pick((*LATER, 600 * SECOND)))


@step(4)
def wrong_for_a_moment(world: World, pick: Pick) -> None:
    """A bad answer of a time server: the clock is an hour off for one call, whichever it is."""
    off = pick((HOUR, -HOUR))
    world.step_clock(off)
    STEPS[pick(("promote", "turn", "enqueue", "beat", "reap", "settle"))].act(world, pick)
    world.step_clock(-off)


@step(2)
def delayed_again(world: World, pick: Pick) -> None:
    """A delayed task is purged, and one of the same id is delayed for longer: it does not come when the first would have."""
    task_id = f"{next(world.numbers) * 37 % 1000:03}"
    offer(world, [Admission(message(task_id), delay=5)])
    purge_all(world, TaskState.SCHEDULED)
    offer(world, [Admission(message(task_id), delay=pick((40, 20)))])
    world.pass_time(6 * SECOND)
    STEPS["promote"].act(world, pick)
