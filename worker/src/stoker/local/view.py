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

BAR_WIDTH = 24
REFRESH = 0.25
LINE_EVERY = 1.0


def table(scenes: Iterable[QueueView], footer: str = "") -> RenderableType:
    """All queues, a row each, and their errors below."""
    scenes = list(scenes)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("queue", "ended"):
        grid.add_column(heading)
    for heading in ("%", "scheduled", "ready", "running", "dead", "tasks/s", "wait"):
        grid.add_column(heading, justify="right")
    grid.add_column("workers")
    grid.add_column("why", style="dim")
    for scene in scenes:
        grid.add_row(*_row(scene))
    troubles = [Text(f"{scene.name}: {scene.trouble}", style="red") for scene in scenes if scene.trouble]
    return Group(grid, *troubles, Text(footer, style="dim"))


def line(scene: QueueView) -> str:
    """One queue in one line, for pipes and CI logs."""
    if scene.stats is None:
        return f"{scene.name}: unknown: {scene.trouble}"
    s = scene.stats
    return (
        f"{s.queue}: {ended(scene)}/{s.totals.enqueued} ended, {s.scheduled} scheduled, {s.ready} ready, {s.running} running, "
        f"{s.dead} dead, "
        f"{s.completion_rate:.0f}/s, workers {_workers(scene)} ({_why(scene)})" + (f" {scene.trouble}" if scene.trouble else "")
    )


def ended(scene: QueueView) -> int:
    """Tasks that have ended: succeeded or dead."""
    return scene.stats.totals.succeeded + scene.stats.dead if scene.stats else 0


def _row(scene: QueueView) -> tuple[RenderableType, ...]:
    s = scene.stats
    if s is None:
        return (scene.name, "", "", "?", "?", "?", "?", "?", "?", _workers(scene), _why(scene))
    bar = ProgressBar(total=max(1, s.totals.enqueued), completed=ended(scene), width=BAR_WIDTH)
    percent = f"{100 * ended(scene) // max(1, s.totals.enqueued)}"
    counts = (str(s.scheduled), str(s.ready), str(s.running), Text(str(s.dead), style="red" if s.dead else ""))
    workers = Text("■" * scene.working, style="green") + Text("■" * scene.leaving, style="yellow") + Text(f" {_workers(scene)}")
    return (s.queue, bar, percent, *counts, f"{s.completion_rate:.0f}", f"{s.oldest_wait:.1f}s", workers, _why(scene))


def _workers(scene: QueueView) -> str:
    return f"{scene.working}" + (f" (+{scene.leaving} draining)" if scene.leaving else "")


def _why(scene: QueueView) -> str:
    return f"{scene.decision.reason}: wants {scene.decision.wanted}" if scene.decision else ""


async def watch(supervisor: Supervisor, until: asyncio.Event, footer: str, console: Console) -> None:
    """Show the queues until the event is set."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while not until.is_set():
                live.update(table(supervisor.scenes.values(), footer), refresh=True)
                await _either(until, REFRESH)
            live.update(table(supervisor.scenes.values()), refresh=True)
        return
    shown: dict[str, str] = {}
    while not until.is_set():
        _print_changes(supervisor, shown, console)
        await _either(until, LINE_EVERY)
    _print_changes(supervisor, shown, console)


def _print_changes(supervisor: Supervisor, shown: dict[str, str], console: Console) -> None:
    for scene in supervisor.scenes.values():
        if (text := line(scene)) != shown.get(scene.name):
            shown[scene.name] = text
            console.print(text, soft_wrap=True, highlight=False)


async def _either(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
