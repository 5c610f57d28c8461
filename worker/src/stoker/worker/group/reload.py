"""`--reload`: watches source files. The only module that imports watchfiles, and only when called."""

import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stoker.errors import Invalid

SETTLE_MS = 200
"""Milliseconds within which saved files count as one change."""


def changes(folder: Path) -> AsyncIterator[Sequence[str]]:
    """Yields the Python files below this folder that changed together, without those of virtual environments.

    Raises Invalid where watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError as error:
        raise Invalid('--reload needs watchfiles: pip install "stoker[reload]"') from error

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # the group logs the changes

    async def look() -> AsyncIterator[Sequence[str]]:
        async for found in awatch(folder, watch_filter=PythonFilter(), debounce=SETTLE_MS):
            yield sorted({str(Path(path).relative_to(folder)) for _, path in found})

    return look()
