"""The metrics pages of several processes as one page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

WORST = frozenset({"stoker_worker_event_loop_lag_seconds"})
"""Gauges of which the highest counts; the others are added up."""
Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class _Seat:
    """What one place in the group has counted: in the process that sits there now, and in those before it."""

    process: str = ""
    now: dict[Series, float] = field(default_factory=dict)
    before: dict[Series, float] = field(default_factory=dict)


class Sums(Collector):
    """Adds up pages. A process that starts anew begins at 0, and its counters go on from where its predecessor's were last seen."""

    def __init__(self, seats: int) -> None:
        self._seats = [_Seat() for _ in range(seats)]
        self._families: dict[str, Metric] = {}

    def hear(self, seat: int, process: str, page: str) -> None:
        """Take in the page of the process at this seat."""
        place = self._seats[seat]
        if process != place.process:
            for series, value in place.now.items():
                place.before[series] = place.before.get(series, 0.0) + value
            place.process = process
        place.now = {}
        for family in text_string_to_metric_families(page):
            if family.name.endswith("_created"):  # moments, which have no sum
                continue
            self._families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                place.now[_series(sample)] = sample.value

    def lose(self, seat: int) -> None:
        """Nobody sits there now: what is counted stays, what is the case (gauges) is over."""
        self.hear(seat, "", "")

    def collect(self) -> Iterator[Metric]:
        """All that was heard, in one."""
        totals: dict[str, dict[Series, float]] = {name: {} for name in self._families}
        owners = {sample: name for name, family in self._families.items() for sample in _samples(family)}
        for place in self._seats:
            self._add(totals, owners, place.now, counted_only=False)
            self._add(totals, owners, place.before, counted_only=True)
        for name, family in self._families.items():
            merged = Metric(name, family.documentation, family.type)
            merged.samples = [Sample(series[0], dict(series[1]), value) for series, value in totals[name].items()]
            yield merged

    def _add(
        self, totals: dict[str, dict[Series, float]], owners: Mapping[str, str], part: Mapping[Series, float], *, counted_only: bool
    ) -> None:
        for series, value in part.items():
            name = owners[series[0]]
            total = totals[name]
            if self._families[name].type != "gauge":
                total[series] = total.get(series, 0.0) + value
            elif not counted_only:
                total[series] = max(total.get(series, 0.0), value) if series[0] in WORST else total.get(series, 0.0) + value


def _series(sample: Sample) -> Series:
    return sample.name, tuple(sample.labels.items())


def _samples(family: Metric) -> tuple[str, ...]:
    """The names of a family's series."""
    ends = {
        "counter": ("_total", "_created"),
        "histogram": ("_bucket", "_sum", "_count", "_created"),
        "summary": ("", "_sum", "_count"),
    }
    return tuple(family.name + end for end in ends.get(family.type, ("",)))
