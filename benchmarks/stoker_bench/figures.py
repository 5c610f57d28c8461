"""Raw rows to figures: medians with their range, and ratios taken within one round."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from stoker_bench.peers import STOKER

Row = dict[str, Any]


class Spread(NamedTuple):
    """A median and what it lay between."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


def spread(rows: Sequence[Row], key: str) -> Spread | None:
    """Of one figure over the rounds; None where it was not measured."""
    values = [row[key] for row in rows if key in row]
    return Spread.of(values) if values else None


def ratio(rows: Sequence[Row], peer: str, key: str, *, more_is_better: bool = True) -> Spread | None:
    """How many times better Stoker was than this peer, each round for itself."""
    ours = {row["round"]: row[key] for row in rows if row["peer"] == STOKER and key in row}
    theirs = {row["round"]: row[key] for row in rows if row["peer"] == peer and key in row}
    shared = [number for number in ours if theirs.get(number)]
    if not shared:
        return None
    values = [ours[number] / theirs[number] if more_is_better else theirs[number] / ours[number] for number in shared]
    return Spread.of(values)


def chosen(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def order(rows: Sequence[Row], rank: Callable[[list[Row]], float]) -> list[str]:
    """The peers in these rows, Stoker first, then by rank."""
    names = list(dict.fromkeys(row["peer"] for row in rows))
    return sorted(names, key=lambda name: (name != STOKER, rank(chosen(rows, peer=name))))
