"""The output of `stoker up`: a live table on a terminal, elsewhere a line on change."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stoker.local.supervisor import QueueView, Supervisor
from stoker.rules.printable import printable

BAR_WIDTH = 24
REFRESH = 0.25
LINE_EVERY = 1.0


def table(views: Iterable[QueueView], footer: str = "") -> RenderableType:
    """All queues, a row each, and their errors below."""
    views = list(views)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("queue", "ended"):
        grid.add_column(heading)
    for heading in ("%", "scheduled", "ready", "running", "dead", "tasks/s", "wait"):
        grid.add_column(heading, justify="right")
    grid.add_column("workers")
    grid.add_column("why", style="dim")
    for view in views:
        grid.add_row(*_row(view))
    troubles = [Text(printable(f"{view.name}: {view.trouble}", "\n"), style="red") for view in views if view.trouble]
    return Group(grid, *troubles, Text(footer, style="dim"))


def line(view: QueueView) -> str:
    """One queue in one line, for pipes and CI logs."""
    if view.stats is None:
        return f"{view.name}: unknown: {view.trouble}"
    s = view.stats
    return (
        f"{s.queue}: {ended(view)}/{s.totals.enqueued} ended, {s.scheduled} scheduled, {s.ready} ready, {s.running} running, "
        f"{s.dead} dead, {s.completion_rate:.0f}/s, workers {_workers(view)} ({_why(view)})"
    )


def ended(view: QueueView) -> int:
    """Tasks that have ended: succeeded or dead."""
    return view.stats.totals.succeeded + view.stats.dead if view.stats else 0


def _row(view: QueueView) -> tuple[RenderableType, ...]:
    s = view.stats
    if s is None:
        return (view.name, "", "", "?", "?", "?", "?", "?", "?", _workers(view), _why(view))
    bar = ProgressBar(total=max(1, s.totals.enqueued), completed=ended(view), width=BAR_WIDTH)
    percent = f"{100 * ended(view) // max(1, s.totals.enqueued)}"
    counts = (str(s.scheduled), str(s.ready), str(s.running), Text(str(s.dead), style="red" if s.dead else ""))
    workers = Text("■" * view.working, style="green") + Text("■" * view.draining, style="yellow") + Text(f" {_workers(view)}")
    return (s.queue, bar, percent, *counts, f"{s.completion_rate:.0f}", f"{s.oldest_wait:.1f}s", workers, _why(view))


def _workers(view: QueueView) -> str:
    return f"{view.working}" + (f" (+{view.draining} draining)" if view.draining else "")


def _why(view: QueueView) -> str:
    return f"{view.decision.reason}: wants {view.decision.wanted}" if view.decision else ""


async def watch(supervisor: Supervisor, until: asyncio.Event, footer: str, console: Console) -> None:
    """Show the queues until the event is set."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while not until.is_set():
                live.update(table(supervisor.views.values(), footer), refresh=True)
                await _wait(until, REFRESH)
            live.update(table(supervisor.views.values()), refresh=True)
        return
    shown: dict[str, tuple[str, str]] = {}
    while not until.is_set():
        _print_changes(supervisor, shown, console)
        await _wait(until, LINE_EVERY)
    _print_changes(supervisor, shown, console)


def _print_changes(supervisor: Supervisor, shown: dict[str, tuple[str, str]], console: Console) -> None:
    for view in supervisor.views.values():
        text, trouble = line(view), view.trouble
        last_text, last_trouble = shown.get(view.name, ("", ""))
        shown[view.name] = text, trouble
        news = trouble if view.stats is not None and trouble != last_trouble else ""  # said once, not with every line
        if text != last_text or news:
            console.print(printable(f"{text} {news}".rstrip(), "\n"), soft_wrap=True, highlight=False, markup=False)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
