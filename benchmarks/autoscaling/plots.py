"""Pareto plots of results.json: plots.py FOLDER. A picture for each start-up time, a panel for each workload."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"stoker": "#c2410c", "KEDA tuned": "#0f766e", "KEDA, best of a grid": "#1d4ed8", "least possible": "#000000"}
OTHER, COLUMNS = "#94a3b8", 4


def main(folder: Path) -> None:
    """Misses against pod hours: towards the lower left is better."""
    rows = json.loads((folder / "results.json").read_text())
    names = list(dict.fromkeys(row["workload"] for row in rows))
    for startup in dict.fromkeys(row["startup"] for row in rows):
        figure, axes = plt.subplots(
            -(-len(names) // COLUMNS), COLUMNS, figsize=(16, 3.4 * -(-len(names) // COLUMNS)), squeeze=False
        )
        for at, axis in enumerate(axes.flat):
            axis.set_visible(at < len(names))
            for row in rows:
                if at < len(names) and (row["workload"], row["startup"]) == (names[at], startup):
                    colour = COLOURS.get(row["scaler"], OTHER)
                    axis.errorbar(
                        row["pod_hours"], row["misses"], row["misses_within"], row["pod_hours_within"], fmt="o", color=colour, ms=5
                    )
                    axis.annotate(
                        row["scaler"], (row["pod_hours"], row["misses"]), fontsize=6, xytext=(3, 3), textcoords="offset points"
                    )
            if at < len(names):
                axis.set_title(names[at], fontsize=9)
                axis.set_yscale("symlog", linthresh=0.1)
                axis.set_ylim(bottom=0)
        figure.supxlabel("pod hours")
        figure.supylabel("tasks that missed the promised wait, %")
        figure.suptitle(f"Pods start in {startup:g} s")
        figure.tight_layout()
        figure.savefig(folder / f"startup-{startup:g}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
