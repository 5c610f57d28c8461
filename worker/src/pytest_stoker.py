"""Pytest plugin of Stoker. Every pytest run with Stoker installed imports this module, so it imports Stoker only when used."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from stoker.testing import Kit, Server


@pytest.fixture(scope="session")
def stoker_server() -> Iterator[Server]:
    """One test server for the whole run (one per pytest-xdist worker)."""
    from stoker.testing import Server

    with Server() as server:
        yield server


@pytest.fixture
def stoker_kit(stoker_server: Server) -> Callable[..., AbstractAsyncContextManager[Kit]]:
    """`async with stoker_kit(app) as kit`: see `stoker.testing.run`."""
    from stoker import testing

    return partial(testing.run, server=stoker_server)
