"""The pictures of the results page."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stoker_bench.figures import Row, Spread, chosen, spread
from stoker_bench.peers import STOKER

OURS, THEIRS = "#c2410c", "#64748b"
Data = dict[str, Any]
Part = tuple[str, str, dict[str, object]]  # title, figure, rows
BARS: dict[str, Sequence[Part]] = {
    "drain": (
        ("no-op tasks a second", "per_second", {}),
        ("worker CPU, us a task", "worker_cpu_us", {}),
        ("worker RSS, MB", "worker_mb", {}),
    ),
    "enqueue": (
        ("in bulk, tasks a second", "per_second", {"way": "bulk"}),
        ("gathered", "per_second", {"way": "gather"}),
        ("one by one", "per_second", {"way": "single"}),
    ),
    "latency": (("p50, us", "p50_us", {}), ("p99, us", "p99_us", {})),
    "naps": (("share of the ideal", "share", {}),),
    "memory": (("bytes a waiting task", "bytes", {}),),
}


def draw(found: dict[str, Data], out: Path) -> dict[str, str]:
    """One picture per suite. Returns their file names."""
    names = {}
    for suite, data in found.items():
        drawing = DRAWINGS.get(suite) or (partial(_bars, suite) if suite in BARS else None)
        figure = drawing(data) if drawing else None
        if figure:
            names[suite] = f"{suite}.png"
            figure.savefig(out / names[suite], dpi=150, metadata={"Software": None})
            plt.close(figure)
    return names


def _bars(suite: str, data: Data) -> Figure:
    server = next(iter(data["facts"]["servers"]))
    rows = chosen(data["rows"], server=server)
    parts = BARS[suite]
    figure, places = plt.subplots(1, len(parts), figsize=(4.2 * len(parts), 3.2), layout="constrained", squeeze=False)
    for place, (title, key, wanted) in zip(places[0], parts, strict=True):
        _barh(place, chosen(rows, **wanted), key)
        place.set_title(title, fontsize=10)
    figure.suptitle(f"{server.capitalize()} {data['facts']['servers'][server]}, {data['facts']['cpu']}", fontsize=8, color=THEIRS)
    return figure


def _barh(place: Axes, rows: list[Row], key: str) -> None:
    found = {peer: spread(chosen(rows, peer=peer), key) for peer in dict.fromkeys(row["peer"] for row in rows)}
    bars: dict[str, Spread] = {peer: value for peer, value in found.items() if value}
    names = sorted(bars, key=lambda peer: bars[peer].middle)
    middles = [bars[name].middle for name in names]
    errors = [[bars[name].middle - bars[name].low for name in names], [bars[name].high - bars[name].middle for name in names]]
    colours = [OURS if name == STOKER else THEIRS for name in names]
    drawn = place.barh(names, middles, xerr=errors, color=colours, error_kw={"lw": 0.8, "alpha": 0.6})
    form = "{:.0%}" if key == "share" else "{:,.0f}"
    place.bar_label(drawn, [" " + form.format(value) for value in middles], fontsize=7, padding=2)
    place.margins(x=0.25)
    place.tick_params(labelsize=8)
    place.spines[["top", "right"]].set_visible(False)


def _depth(data: Data) -> Figure:
    figure, place = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for server in data["facts"]["servers"]:
        rows = [row for row in chosen(data["rows"], server=server) if "depth" in row]
        depths = sorted({row["depth"] for row in rows})
        for key, style, what in (("us", "-o", "in all"), ("server_cpu_us", "--s", "server CPU")):
            values = [spread(chosen(rows, depth=depth), key) for depth in depths]
            middles = [value.middle if value else 0.0 for value in values]
            place.plot(depths, middles, style, label=f"{server}, {what}", markersize=4, linewidth=1)
    place.set_xscale("log")
    place.set_ylim(bottom=0)
    place.set_xlabel("tasks waiting", fontsize=8)
    place.set_ylabel("us a task: enqueue + fetch + settle", fontsize=8)
    place.tick_params(labelsize=8)
    place.legend(fontsize=7)
    place.spines[["top", "right"]].set_visible(False)
    return figure


def _partitions(data: Data) -> Figure:
    figure, place = plt.subplots(figsize=(4.2, 3.2), layout="constrained")
    rows = [row for row in data["rows"] if "partitions" in row]
    counts = sorted({row["partitions"] for row in rows})
    for server in data["facts"]["servers"]:
        mine = [spread(chosen(rows, server=server, partitions=count), "per_second") for count in counts]
        place.plot(counts, [each.middle if each else 0.0 for each in mine], "-o", label=server, markersize=4, linewidth=1)
    place.set_ylim(bottom=0)
    place.set_xticks(counts)
    place.set_xlabel("partitions, each on a node that has a tenth of a core", fontsize=8)
    place.set_ylabel("no-op tasks a second", fontsize=8)
    place.tick_params(labelsize=8)
    place.legend(fontsize=7)
    place.spines[["top", "right"]].set_visible(False)
    return figure


DRAWINGS: dict[str, Callable[[Data], Figure]] = {"depth": _depth, "partitions": _partitions}
