"""Two tasks, two workers, every order of events: no way leads to a broken law."""

import pytest

from tests.proof.amount import DEPTH
from tests.proof.movable import movable_server
from tests.proof.search import search
from tests.proof.world import Engine, World


@pytest.mark.timeout(120 if DEPTH < 9 else 3600)
def test_every_interleaving() -> None:
    with movable_server(durable=False) as (server, clock):
        world = World(server, clock, Engine())
        explored = search(world, DEPTH)
        world.close()
    print(f"{explored.states} states, {explored.transitions} transitions, up to {explored.depth} steps deep")
    assert explored.whole or explored.depth == DEPTH
    assert explored.states > 30 * DEPTH, "a search that goes nowhere proves nothing"
