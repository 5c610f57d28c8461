"""The lines of `stoker up` in a pipe: one for each change, and what went wrong once."""

from types import SimpleNamespace
from typing import Any

from rich.console import Console

from stoker.local.supervisor import QueueView
from stoker.local.view import _print_changes
from stoker.queue.records import QueueStats, Totals

KILLED = "emails-1 was killed by signal 9; another takes its place"


def view(ready: int, trouble: str = "") -> QueueView:
    stats = QueueStats("emails", ready, 0, 0, 0, 0, 0, 0, 0.0, 0, False, 0.0, totals=Totals())
    return QueueView("emails", 1, 0, stats, None, trouble)


def test_what_went_wrong_is_said_once() -> None:
    console = Console(record=True, width=200)
    supervisor: Any = SimpleNamespace(views={})
    shown: dict[str, tuple[str, str]] = {}
    for each in (view(9), view(8, KILLED), view(7, KILLED), view(7, KILLED), view(7), view(6), view(6, KILLED)):
        supervisor.views["emails"] = each
        _print_changes(supervisor, shown, console)
    lines = console.export_text().splitlines()
    assert [(line.split(" ready")[0][-1], KILLED in line) for line in lines] == [
        ("9", False), ("8", True), ("7", False), ("6", False), ("6", True),
    ]  # fmt: skip
