"""What the minder of a partition does. Imported by `histories.py`, as the other modules of steps."""

from tests.proof.actions import mind as look_for_chores
from tests.proof.model import GRACE
from tests.proof.steps import step
from tests.proof.world import WORKERS, Pick, World


@step(5)
def mind(world: World, pick: Pick) -> None:
    """A worker looks for chores: as a rule the minder, at its moment; or one that was frozen."""
    worker = pick((world.model.minder, world.model.minder, *WORKERS)) or WORKERS[0]
    if pick((True, False)) and world.now:
        world.pass_time(max(0, world.model.mind_until - GRACE - world.now))
    look_for_chores(world, worker)
