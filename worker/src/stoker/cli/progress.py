"""Progress bars for long work: on stderr, so that stdout holds results alone, and only on a terminal."""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


def in_chunks(items: Sequence[T], size: int, label: str) -> Iterator[Sequence[T]]:
    """The items in runs of at most `size`; the bar advances when the next run is asked for."""
    bar = _bar()
    with bar if sys.stderr.isatty() and len(items) > size else nullcontext():
        task = bar.add_task(label, total=len(items))
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            yield chunk
            bar.advance(task, len(chunk))


async def counted(pages: AsyncIterator[Sequence[T]], label: str) -> AsyncIterator[Sequence[T]]:
    """Pages of unknown number; the bar counts their items."""
    bar = _bar()
    with bar if sys.stderr.isatty() else nullcontext():
        task = bar.add_task(label, total=None)
        async for page in pages:
            yield page
            bar.advance(task, len(page))


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
