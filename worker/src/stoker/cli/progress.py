"""A progress bar for long work. On stderr, so that stdout stays for results, and only where somebody looks."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TypeVar

T = TypeVar("T")


def in_chunks(items: Sequence[T], size: int, label: str) -> Iterator[Sequence[T]]:
    """The items in runs of at most `size`; the bar moves on whenever the next run is asked for."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    with bar if sys.stderr.isatty() and len(items) > size else nullcontext():
        task = bar.add_task(label, total=len(items))
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            yield chunk
            bar.advance(task, len(chunk))
