"""What operators and a person do to the claim of a TaskQueue on the queue. Imported by `histories.py`."""

from stoker.rules.identity import Holder
from tests.engine.line import QUEUE
from tests.proof.actions import answers
from tests.proof.steps import step
from tests.proof.world import Pick, World

HOLDERS = (Holder("here", "shop", "emails", "1"), Holder("here", "shop", "mails", "2"), Holder("there", "shop", "emails", "1"))


@step(2)
def claim_queue(world: World, pick: Pick) -> None:
    """An operator claims the queue for a TaskQueue, or takes it over from one that it has seen there: rightly, or too late."""
    holder, seen = pick(HOLDERS), pick((None, world.model.holder, *HOLDERS))
    held = world.call(world.line.inspector.claim(QUEUE, holder, seen))
    answers(held, world.model.claim_queue(holder, seen))


@step(1)
def release_queue(world: World, pick: Pick) -> None:
    """An operator releases the claim of a TaskQueue that was deleted, or a person whichever there is."""
    holder = pick((world.model.holder, *HOLDERS, None))
    answers(world.call(world.line.inspector.release_claim(QUEUE, holder)), world.model.release_queue(holder))
