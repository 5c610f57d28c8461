"""Histories by seed: one number makes one history, the same each time, and a failing one is made short."""

import random
from collections.abc import Callable, Iterator, Sequence

from tests.proof import (
    steps_catalogue,  # noqa: F401
    steps_chores,  # noqa: F401
    steps_claims,  # noqa: F401
    steps_clock,  # noqa: F401
    steps_handlers,  # noqa: F401
    steps_losses,  # noqa: F401
    steps_schedules,  # noqa: F401
    steps_unclaimed,  # noqa: F401
    steps_workflows,  # noqa: F401
)
from tests.proof.ledger import Broken
from tests.proof.model import Rules
from tests.proof.steps import FAMILIES, STEPS, names, perform
from tests.proof.world import Step, World

LONGEST = 45
CHOICES, NUMBERS = 120, 6  # a multiple of the lengths of most choices, so that none comes up more often; numbers a step
LEFT_OUT = (0.4, 0.6, 0.8)  # of the kinds of steps that are not essential
SOMETIMES, ALL_LEFT_OUT = (
    ("steps_workflows", "steps_schedules", "steps_chores"),
    0.5,
)  # so often one has nothing to do with groups, with the clock, or with chores
LATER = ("steps_unclaimed", "steps_claims", "steps_clock", "steps_losses", "steps_catalogue", "steps_handlers")
"""Families that have dice of their own, so that the histories of old seeds stay as they are: half of them get steps of such a
family between theirs. A new family goes here."""
MOST_BETWEEN = 12
ESSENTIAL = ("enqueue", "turn", "fetch", "settle", "time_passes")
FRESH_AFTER = 100  # histories, so that the append-only file stays short
SETUPS = (
    Rules(),
    Rules(max_lost=3),
    Rules(keep=20_000, keep_dead=60_000, max_lost=3, keep_unclaimed=15_000),
    Rules(keep_count=2, keep_dead_count=2, max_lost=4),
    Rules(keep=0),
)
Open = Callable[[], World]


class Found(AssertionError):
    """A history that breaks a law, as short as it could be made."""

    def __init__(self, broken: Broken, rules: Rules, steps: Sequence[Step], origin: str) -> None:
        story = "\n".join(f"  {step}" for step in steps)
        super().__init__(f"{broken}\nfound by {origin}, with {rules}, after\n{story}")
        self.law, self.rules, self.steps = broken.law, rules, list(steps)


def history(seed: int) -> tuple[Rules, list[Step]]:
    """The history of this number."""
    dice = random.Random(seed)
    # Without some of the steps others meet more often (Groce et al., "Swarm Testing", 2012): a queue that is purged again
    # and again gets nowhere, and with few kinds of steps a history gets farther with each.
    share = dice.choice(LEFT_OUT)
    later = {name for family in LATER for name in FAMILIES[family]}
    left_out = {name for name in STEPS if name not in ESSENTIAL and name not in later and dice.random() < share}
    for family in SOMETIMES:
        left_out |= set(FAMILIES[family]) if dice.random() < ALL_LEFT_OUT else set()
    kinds = [name for name in names() if name not in left_out | later]
    steps = [_step(dice, kinds) for _ in range(dice.randrange(15, LONGEST))]
    rules = dice.choice(SETUPS)
    for family in LATER:
        _put_between(steps, family, random.Random(f"{family} {seed}"))
    return rules, steps


def _step(dice: random.Random, kinds: Sequence[str]) -> Step:
    return Step(dice.choice(kinds), tuple(dice.randrange(CHOICES) for _ in range(NUMBERS)))


def _put_between(steps: list[Step], family: str, dice: random.Random) -> None:
    """Put some steps of this family between those of half of the histories."""
    if dice.random() < ALL_LEFT_OUT:
        return
    kinds = [name for name in names() if name in FAMILIES[family]]
    for _ in range(dice.randrange(1, MOST_BETWEEN)):
        steps.insert(dice.randrange(len(steps) + 1), _step(dice, kinds))


def broken(world: World, rules: Rules, steps: Sequence[Step]) -> Broken | None:
    """The law that these steps break, if any. Twice: a clock that drifted while the machine was busy is no bug."""
    for _ in range(2):
        try:
            world.begin(rules)
            for step in steps:
                perform(world, step)
        except Broken as law:
            last = law
        else:
            return None
    return last


def run(world: World, seed: int, *, shorten: bool = True) -> int:
    """Live through the history of this number. Returns how many steps it had. Raises Found."""
    rules, steps = history(seed)
    if (law := broken(world, rules, steps)) is None:
        return len(steps)
    steps = world.history
    if shorten:
        law, steps = shortest(world, rules, steps, law)
    raise Found(law, rules, steps, f"STOKER_PROOF_SEED={seed}")


def shortest(world: World, rules: Rules, steps: Sequence[Step], law: Broken) -> tuple[Broken, list[Step]]:
    """The same broken law with steps left out and numbers made small, as long as it stays broken."""
    kept = list(steps)
    progress = True
    while progress:
        progress = False
        for simpler in _simpler(kept):
            again = broken(world, rules, simpler)
            if again is not None and again.law == law.law:
                law, kept, progress = again, world.history, True
                break
    return law, kept


def _simpler(steps: list[Step]) -> Iterator[list[Step]]:
    for size in (8, 4, 2, 1):
        for at in range(len(steps) - size, -1, -1):
            yield steps[:at] + steps[at + size :]
    for at, step in enumerate(steps):
        if step.numbers:
            shorter = Step(step.name, step.numbers[:-1])
            yield [*steps[:at], shorter, *steps[at + 1 :]]
