"""The proof can fail: each bug planted in a copy of the engine is caught by the seeds that `make test` runs, or by the search."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.amount import BY_DAY
from tests.proof.histories import Found, run
from tests.proof.movable import MovableClock, movable_server
from tests.proof.planted import BUGS, Bug, planted
from tests.proof.search import search
from tests.proof.world import World
from tests.redis_servers import Server

DEPTH = 7


@pytest.fixture(scope="module")
def timed_once() -> Iterator[tuple[Server, MovableClock]]:
    with movable_server() as both:
        yield both


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_caught(bug: Bug, timed_once: tuple[Server, MovableClock], tmp_path: Path) -> None:
    with planted(bug, tmp_path) as engine:
        world = World(*timed_once, engine)
        try:
            found = by_seed(world) or by_search(world)
        finally:
            world.close()
    assert found, f"nobody noticed that {bug.name}"
    print(f"{bug.name}: caught by “{found.law}” after {len(found.steps)} steps\n{found}")


def by_seed(world: World) -> Found | None:
    for seed in range(BY_DAY):
        try:
            run(world, seed, shorten=False)
        except Found as found:
            return found
    return None


def by_search(world: World) -> Found | None:
    try:
        search(world, DEPTH)
    except Found as found:
        return found
    return None
