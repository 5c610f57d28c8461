"""Deaths that are handled: by what the name of a task has announced, and by what its own call says."""

from msgspec.structs import replace

from stoker.queue.workflows.outbox import Outbox
from stoker.rules.admission import Admission
from stoker.rules.states import TaskState
from stoker.rules.workflow import dump_links
from tests.engine.line import QUEUE, message
from tests.proof.actions import announce, answers, beat_with, cancel_one, ended, handler_step, offer, reap_all, relay_all, take_turn
from tests.proof.steps import PRIORITIES, SECOND, purge_all, step
from tests.proof.world import TEMPLATES, Pick, World

HOOKS: tuple[dict[str, str], ...] = (
    {"add": "fix"},
    {"add": "fix", "fix": "alarm"},
    {"": "alarm"},
    {"mul": "fix"},
    {},
    {"add": "alarm"},
)


@step(5)
def handlers_are_announced(world: World, pick: Pick) -> None:
    """A worker of some template comes, and says what handles the deaths of which tasks."""
    worker = pick(world.workers)
    worker.template = pick(tuple(TEMPLATES))
    beat_with(world, worker)
    announce(world, worker.template, pick(HOOKS))


@step(3)
def a_call_with_handlers(world: World, pick: Pick) -> None:
    """Its envelope names one or two."""
    links = dump_links((), tuple(handler_step(name) for name in pick((("own",), ("own", "alarm")))))
    task = message(f"{next(world.numbers) * 37 % 1000:03}", pick(PRIORITIES))
    offer(world, [Admission(replace(task, onward=links))])


@step(8)
def it_dies(world: World, pick: Pick) -> None:
    """What a worker holds dies, perhaps because it is lost again and again; handlers too. What follows is relayed, or not yet."""
    worker = pick(world.workers)
    if not world.model.hooks:
        announce(world, "new", HOOKS[0])
    for _ in range(pick((1, 2, 3))):
        if not worker.held:
            take_turn(world, worker, [], pick((1, 2)))
        if pick((True, True, False)):
            take_turn(world, worker, [ended(world, each, "bury") for each in worker.held], 0)
        else:
            world.retire(*worker.held)
            world.polling = world.polling or worker.woken
            worker.held, worker.woken = [], False
            world.pass_time(world.rules.lease + SECOND)
            reap_all(world)
        if pick((True, True, False)):
            _relay_twice(world, pick)


@step(4)
def it_dies_again(world: World, pick: Pick) -> None:
    """The dead are redriven, and die once more: each death is handled."""
    dead = [item.id for item in world.model.at("dead")][:2]
    answers(world.call(world.line.inspector.redrive(QUEUE, dead)), world.model.redrive(dead, world.now))
    it_dies(world, pick)


@step(3)
def cancelled_instead(world: World, pick: Pick) -> None:
    """What is cancelled or has expired is not dead: nothing handles it, whoever hears of it."""
    worker = pick(world.workers)
    take_turn(world, worker, [], pick((1, 2)))
    if len(worker.held) > 1 and pick((True, False)):  # an expired one is cancelled by its worker, in the call that buries another
        one, two = worker.held[:2]
        take_turn(world, worker, [ended(world, one, "cancel"), ended(world, two, "bury")], 0)
    for delivery in list(worker.held):
        if pick((True, False)):
            take_turn(world, worker, [ended(world, delivery, "cancel")], 0)
        else:
            cancel_one(world, delivery.id)
            world.retire(delivery)
            worker.held = [each for each in worker.held if each is not delivery]
            world.pass_time(world.rules.lease + SECOND)
            reap_all(world)


def _relay_twice(world: World, pick: Pick) -> None:
    """What was made once is not made again where the first relay died or is repeated, even if the handler is gone by then."""
    entries = world.call(Outbox(world.client, world.keys).read())
    relay_all(world, entries, pick((None, 1)))
    if pick((False, True)):
        purge_all(world, TaskState.READY)
    relay_all(world, entries)
