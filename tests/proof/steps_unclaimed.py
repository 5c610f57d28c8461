"""Workers of several applications on one queue: what one does not know, another may, and templates come and go."""

from stoker.queue.records import Delivery
from stoker.queue.settlements import Settlement
from stoker.rules.settle import Unclaim
from tests.engine.line import QUEUE
from tests.proof.actions import announce, answers, beat_with, ended, heartbeat, reap_all, take_turn
from tests.proof.steps import SECOND, VERBS, step, sweep
from tests.proof.world import TEMPLATES, Pick, Worker, World, worker_of


@step(8)
def a_worker_does_not_know_it(world: World, pick: Pick) -> None:
    """It sets aside one of what it holds; or somebody does who held it once, perhaps beside a task that has succeeded."""
    holders = [worker for worker in world.workers if worker.held]
    if holders and pick((True, True, True, False)):
        worker = pick(holders)
        settlements = [_unknown_to(world, worker, pick(worker.held), pick)]
        if pick((False, True)):
            settlements += [ended(world, each, pick(VERBS)) for each in worker.held if each.fence != settlements[0].fence][:1]
        take_turn(world, worker, settlements, pick((0, 0, 1)))
    elif world.former:
        delivery = pick(world.former)
        late = Worker(worker_of(delivery))
        take_turn(world, late, [_unknown_to(world, late, delivery, pick)], 0)


def _unknown_to(world: World, worker: Worker, delivery: Delivery, pick: Pick) -> Settlement:
    task, version = pick((("add", 0), ("add", 1), ("mul", 0), ("div", 3), ("nothing", 0), ("add", 2)))
    strangers = [name for name, names in TEMPLATES.items() if (names or {}).get(task, -1) < version]
    template = worker.template if worker.template in strangers else pick(strangers)
    return ended(world, delivery, "unclaim", unknown=Unclaim(task, version, template, 5))


@step(4)
def a_rollout(world: World, pick: Pick) -> None:
    """A worker comes back as one of another template, and announces what it knows now."""
    worker = pick(world.workers)
    worker.template = pick((*TEMPLATES, ""))
    answer = heartbeat(world, worker.name, [], worker.template)
    if worker.template and (answer.announce or pick((True, True))):
        announce(world, worker.template)


@step(4)
def nobody_lives(world: World, pick: Pick) -> None:
    """No worker beats for longer than a lease; then one does not know what it meets, and perhaps another comes that does."""
    world.pass_time(world.rules.lease + SECOND)
    reap_all(world)
    worker = pick(world.workers)
    if pick((False, True)):  # it alone lives, and what its own template has announced says nothing about what it has met
        worker.template = pick(("large", "old"))
        beat_with(world, worker)
    take_turn(world, worker, [], 2)
    settlements = [_unknown_to(world, worker, delivery, pick) for delivery in worker.held]
    take_turn(world, worker, settlements, 0)
    if pick((True, False)):
        beat_with(world, pick(world.workers))
    if pick((False, True)):
        world.pass_time(world.rules.keep_unclaimed)
        sweep(world, pick)


@step(3)
def count_all(world: World, pick: Pick) -> None:
    """What people and the autoscaler are shown."""
    [stats] = world.call(world.line.inspector.stats([QUEUE]))
    at = world.model.at
    ready = len(at("ready", "suspects")) + len(world.model.outbox)
    answers((stats.ready, stats.unclaimed), (ready, len(at("unclaimed"))))
    answers([stats.unseen_by(template) for template in TEMPLATES], [world.model.unseen(template) for template in TEMPLATES])
