"""Any history keeps every law: those of hundreds of seeds, and those that hypothesis makes up.

A seed that fails is printed with the shortest history that fails the same way; STOKER_PROOF_SEED=<it> runs it again, step by step.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.proof.amount import FIRST, SEED, SEEDS
from tests.proof.histories import FRESH_AFTER, SETUPS, Found, broken, history, run
from tests.proof.ledger import Broken
from tests.proof.model import Rules
from tests.proof.movable import movable_server
from tests.proof.steps import STEPS, perform
from tests.proof.world import Engine, Step, World
from tests.redis_servers import Kind

A_SEED = 0.25  # seconds at most, on a busy machine


@contextmanager
def open_world(kind: Kind = Kind.VALKEY_9) -> Iterator[World]:
    with movable_server(kind) as (server, clock):
        world = World(server, clock, Engine())
        try:
            yield world
        finally:
            world.close()


class AnyHistory(RuleBasedStateMachine):
    """One rule for each kind of step: see `steps`."""

    world: ClassVar[World]

    @initialize(setup=st.sampled_from(SETUPS))
    def begin(self, setup: Rules) -> None:
        self.setup = setup
        self.world.begin(setup)

    def take(self, step: Step) -> None:
        try:
            perform(self.world, step)
        except Broken:
            # Once more from the start, which also says whether it was the machine that was slow and not a bug.
            if law := broken(self.world, self.setup, list(self.world.history)):
                raise Found(law, self.setup, self.world.history, "hypothesis") from law


def _rule(name: str) -> Any:
    @rule(numbers=st.lists(st.integers(0, 11), max_size=6))
    def take(machine: AnyHistory, numbers: list[int]) -> None:
        machine.take(Step(name, tuple(numbers)))

    return take


for _name in STEPS:
    setattr(AnyHistory, _name, _rule(_name))


@pytest.mark.timeout(120 + SEEDS * A_SEED)
def test_a_history_that_hypothesis_makes_up_keeps_the_laws() -> None:
    with open_world() as AnyHistory.world:
        run_state_machine_as_test(
            AnyHistory,
            settings=settings(
                max_examples=max(10, SEEDS // 20),
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )


@pytest.mark.timeout(60 + SEEDS * A_SEED)
@pytest.mark.parametrize(
    ("kind", "share"), [pytest.param(Kind.VALKEY_9, 1, id="valkey-9"), pytest.param(Kind.REDIS_7, 5, id="redis-7.0")]
)
def test_the_history_of_every_seed_keeps_the_laws(kind: Kind, share: int) -> None:
    steps = 0
    with ExitStack() as stack:
        for number, seed in enumerate(range(FIRST, FIRST + SEEDS // share)):
            if number % FRESH_AFTER == 0:  # the append-only file of a server that lives on gets long
                stack.close()
                world = stack.enter_context(open_world(kind))
            steps += run(world, seed)
    print(f"{SEEDS // share} histories from seed {FIRST} on {kind.value}: {steps} steps, and every law held after each")


if SEED is not None:  # one history alone was asked for

    def test_this_seed() -> None:
        seed = int(SEED)
        rules, steps = history(seed)
        with open_world() as world:
            run(world, seed)
            world.begin(rules)
            print(rules)
            for step in steps:
                perform(world, step)
                print(f"{step!s:50} -> {world.now - world.clock.now:+} ms", *world.model.items.values(), sep="\n    ")
