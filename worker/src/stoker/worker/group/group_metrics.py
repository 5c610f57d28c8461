"""Metrics of a worker group: the pages of its processes, summed into one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

WORST = frozenset({"stoker_worker_event_loop_lag_seconds"})
"""Gauges of which the maximum is shown; the others are summed."""
Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class _Seat:
    """The series of one seat: of the process that has it now, and the final ones of those before it."""

    process: str = ""
    now: dict[Series, float] = field(default_factory=dict)
    before: dict[Series, float] = field(default_factory=dict)


class SummedMetrics(Collector):
    """Sums pages. A replaced process starts at 0, so its counters are added to the last ones of its predecessors."""

    def __init__(self, seats: int) -> None:
        self._seats = [_Seat() for _ in range(seats)]
        self._families: dict[str, Metric] = {}

    def update(self, seat: int, process: str, page: str) -> None:
        """Replace the page of this seat. `process` is the name of the process that it comes from."""
        current = self._seats[seat]
        if process != current.process:
            for series, value in current.now.items():
                current.before[series] = current.before.get(series, 0.0) + value
            current.process = process
        current.now = {}
        for family in text_string_to_metric_families(page):
            if family.name.endswith("_created"):  # timestamps: a sum means nothing
                continue
            self._families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                current.now[_series(sample)] = sample.value

    def remove(self, seat: int) -> None:
        """The seat has no process: its counters stay, its gauges go."""
        self.update(seat, "", "")

    def collect(self) -> Iterator[Metric]:
        """The sums of all seats."""
        totals: dict[str, dict[Series, float]] = {name: {} for name in self._families}
        owners = {sample: name for name, family in self._families.items() for sample in _samples(family)}
        for seat in self._seats:
            self._add(totals, owners, seat.now, counted_only=False)
            self._add(totals, owners, seat.before, counted_only=True)
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
    """The sample names of a family."""
    ends = {
        "counter": ("_total", "_created"),
        "histogram": ("_bucket", "_sum", "_count", "_created"),
        "summary": ("", "_sum", "_count"),
    }
    return tuple(family.name + end for end in ends.get(family.type, ("",)))
