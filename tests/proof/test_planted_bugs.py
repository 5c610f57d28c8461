"""The proof can fail: each bug planted in a copy of the engine is caught by the seeds that `make test` runs, or by the search.

`caught_by.json` says which seed (-1: the search) caught each bug last: that is tried first. It saves minutes, and proves nothing:
where it is out of date, all seeds are tried. To renew it, run this module with its path in `STOKER_PROOF_CAUGHT_BY`.
"""

import json
import os
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
CAUGHT_BY = json.loads(Path(__file__).with_name("caught_by.json").read_text())
SEARCH = -1


@pytest.fixture(scope="module")
def timed_once() -> Iterator[tuple[Server, MovableClock]]:
    with movable_server() as both:
        yield both


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_caught(bug: Bug, timed_once: tuple[Server, MovableClock], tmp_path: Path) -> None:
    with planted(bug, tmp_path) as engine:
        world = World(*timed_once, engine)
        try:
            found, by = caught(world, CAUGHT_BY.get(bug.name, 0))
        finally:
            world.close()
    assert found, f"nobody noticed that {bug.name}"
    print(f"{bug.name}: caught by “{found.law}” after {len(found.steps)} steps\n{found}")
    if path := os.environ.get("STOKER_PROOF_CAUGHT_BY"):
        known = json.loads(Path(path).read_text())
        Path(path).write_text(json.dumps({**known, bug.name: by}, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def caught(world: World, first: int) -> tuple[Found | None, int]:
    """What is found, and by which seed or the search. `first` is tried first."""
    if first == SEARCH and (found := by_search(world)) is not None:
        return found, SEARCH
    for seed in (max(first, 0), *range(BY_DAY)):
        if (found := by_seed(world, seed)) is not None:
            return found, seed
    return by_search(world), SEARCH


def by_seed(world: World, seed: int) -> Found | None:
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
