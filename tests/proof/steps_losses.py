"""Tasks that are lost with their workers more than once. Imported by `histories.py`."""

from stoker.rules.admission import Admission
from tests.proof.actions import offer, reap_all, take_turn
from tests.proof.steps import SECOND, message, step
from tests.proof.world import Pick, World


@step(4)
def lost_again(world: World, pick: Pick) -> None:
    """Workers take tasks and die, more than once: what is left is suspected. Perhaps two are busy when they meet it."""
    for _ in range(pick((2, 2, 3))):
        for worker in world.workers:
            take_turn(world, worker, [], pick((1, 2)))
        for worker in world.workers:
            world.polling = world.polling or worker.woken
            world.retire(*worker.held)
            worker.held, worker.woken = [], False
        world.pass_time(world.rules.lease + SECOND)
        reap_all(world)
    if pick((True, False)):
        offer(world, [Admission(message(f"{next(world.numbers) * 37 % 1000:03}", 50)) for _ in range(2)])
        one, two = world.workers[:2]
        for worker in (one, two):
            take_turn(world, worker, [], 1)
        take_turn(world, one, [], 2)
        world.pass_time(pick((3 * SECOND, 1)))
        take_turn(world, two, [], 2)
