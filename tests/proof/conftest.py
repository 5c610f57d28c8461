"""Servers whose clock is held. How much is to be proven: see `amount`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "redis"))  # `line`, the queue under test, is shared with those tests

from movable import MovableClock, movable_server

from servers import Kind, Server


@pytest.fixture(params=[Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
def timed(request: pytest.FixtureRequest) -> Iterator[tuple[Server, MovableClock]]:
    """A server and its clock, of each kind."""
    with movable_server(request.param) as (server, clock):
        yield server, clock
