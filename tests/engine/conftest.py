"""A queue for every test, checked for the truth afterwards."""

from collections.abc import AsyncIterator, Iterator

import pytest

from stoker.queue import scripts
from tests.engine.line import TIME, Line, open_line
from tests.redis_servers import Kind, Server, running_valkey


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Older servers are for `make nightly`, but for what is marked `every_server`.

    By day they still run every script with every command that it calls: test_rights.py takes one command after the other away.
    """
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        older = parameters.get("shared_valkey", Kind.VALKEY_9) is not Kind.VALKEY_9
        if older and not item.get_closest_marker("every_server"):
            item.add_marker("nightly")


@pytest.fixture(scope="session", params=list(Kind), ids=lambda kind: kind.value)
def shared_valkey(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each kind of server in turn: the scripts promise the same on all. A missing one fails and says what to install."""
    with running_valkey(kind=request.param) as server:
        yield server


@pytest.fixture(autouse=True)
def time_that_can_pass() -> Iterator[None]:
    """The scripts of this process read a clock that `Line.pass_time` moves."""
    scripts.take_time_from(TIME)
    yield
    scripts.take_time_from()


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[Line]:
    """An empty queue with a lease of 30 s and three losses until the grave."""
    async with open_line(redis_url) as opened:
        yield opened
