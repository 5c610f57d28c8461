"""The records beside the tasks keep their laws, and each bug planted in them breaks one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.ledger import Broken
from tests.proof.model import Rules
from tests.proof.movable import MovableClock, movable_server
from tests.proof.planted import Bug, planted
from tests.proof.planted_records import BUGS, LAWS
from tests.proof.world import Engine, World
from tests.redis_servers import Server


@pytest.fixture(scope="module")
def timed_once() -> Iterator[tuple[Server, MovableClock]]:
    with movable_server() as both:
        yield both


def broken_laws(timed: tuple[Server, MovableClock], engine: Engine) -> list[str]:
    world, found = World(*timed, engine), []
    try:
        for law in LAWS:
            world.begin(Rules())
            try:
                law(world)
            except Broken as broken:
                found.append(str(broken))
    finally:
        world.close()
    return found


def test_the_records_keep_their_laws(timed_once: tuple[Server, MovableClock]) -> None:
    assert broken_laws(timed_once, Engine()) == []


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_bug_planted_in_the_records_is_caught(bug: Bug, timed_once: tuple[Server, MovableClock], tmp_path: Path) -> None:
    with planted(bug, tmp_path) as engine:
        assert broken_laws(timed_once, engine), f"nobody noticed that {bug.name}"
