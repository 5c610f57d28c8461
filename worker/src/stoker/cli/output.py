"""Output of commands: JSON for scripts, tables on a terminal, aligned columns in a pipe."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from stoker.rules.printable import printable
from stoker.rules.units import format_duration


def print_json(value: Any) -> None:
    """One line of JSON on stdout, in ASCII where its encoding has not all characters."""
    text = msgspec.json.encode(value).decode()
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), separators=(",", ":"))
    print(text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A rich table on a terminal, columns separated by blanks elsewhere."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Names and values, one line each."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        print(f"{name.ljust(width)}  {printable(str(value), keep=chr(10))}")


def seconds(value: float) -> str:
    """A rounded time: "1h4m", "12s", "0.4s"."""
    if value < 10:
        return f"{value:.1f}s"
    return format_duration(round(value) if value < 3600 else round(value / 60) * 60)


def since(milliseconds: int) -> str:
    """Relative time: "12s ago", "in 5m"."""
    distance = time.time() - milliseconds / 1000
    return f"{seconds(distance)} ago" if distance >= 0 else f"in {seconds(-distance)}"


def _print_rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold cyan", pad_edge=False)
    numeric = [bool(column) and all(cell.replace(".", "", 1).isdigit() for cell in column) for column in zip(*cells, strict=True)]
    for at, name in enumerate(columns):
        right = bool(numeric) and numeric[at]
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
