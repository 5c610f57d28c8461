"""Servers whose clock is held. How much is to be proven: see `amount`."""

from collections.abc import Iterator

import pytest

from tests.proof.movable import MovableClock, movable_server
from tests.redis_servers import Kind, Server


@pytest.fixture(params=[Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
def timed(request: pytest.FixtureRequest) -> Iterator[tuple[Server, MovableClock]]:
    """A server and its clock, of each kind."""
    with movable_server(request.param) as (server, clock):
        yield server, clock
