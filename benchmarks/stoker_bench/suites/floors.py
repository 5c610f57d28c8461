"""What the same machine does with a bare stream and no guarantees: the floor under every figure."""

from pathlib import Path

from stoker_bench.bench import Plan, Row, prepared
from stoker_bench.processes import report

WAYS = ("one", "batched", "protocol")


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """One row for each way of reading."""
    rows = []
    for way in WAYS:
        count = min(plan.largest, 20_000 if way == "one" else 100_000)
        with prepared(peer, binary, count) as bench:
            report("stoker_bench.probes.floor", bench.environment(), peer, way)
            rows.append({"way": way, **bench.drained()})
    return rows
