"""What every folder of tests may ask for: a real server."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.redis_servers import Valkey, running_valkey

# A busy machine is slow for a second or two: that says nothing about the code, and timing belongs to benchmarks.
settings.register_profile("stoker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stoker")


def pytest_configure() -> None:
    """Let programs under test end on Ctrl-C: where a shell starts pytest in the background, its children would ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    """One server for the whole run. Do not stop it: `running_valkey` gives one to break."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def redis_url(shared_valkey: Valkey) -> str:
    """The URL of an empty database."""
    shared_valkey.flush()
    return shared_valkey.url


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A server for this test alone, which it may stop and start again."""
    with running_valkey() as server:
        yield server
