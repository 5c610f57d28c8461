"""Pages run in the process of the tests."""

from collections.abc import Iterator

import pytest

from tests.logging_state import logging_restored


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """What one page does to logging is not there for the next."""
    with logging_restored():
        yield
