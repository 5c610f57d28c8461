"""Which source files change, for `--reload`. The only module that wants watchfiles, and only when it is called."""

import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stoker.errors import Invalid

SETTLE_MS = 200
"""Milliseconds within which files that are saved together count as one change."""


def changes(folder: Path) -> AsyncIterator[Sequence[str]]:
    """The Python files below this folder that were changed together, again and again; virtual environments are left out.

    Raises Invalid where watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError as error:
        raise Invalid('--reload needs watchfiles: pip install "stoker[reload]"') from error

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # we say ourselves what has changed

    async def look() -> AsyncIterator[Sequence[str]]:
        async for found in awatch(folder, watch_filter=PythonFilter(), debounce=SETTLE_MS):
            yield sorted({str(Path(path).relative_to(folder)) for _, path in found})

    return look()
