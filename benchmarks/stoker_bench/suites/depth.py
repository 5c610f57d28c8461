"""Stoker alone: what enqueue + fetch + settle cost with a thousand to a million tasks waiting."""

from pathlib import Path

from stoker_bench.bench import Plan, Row, prepared
from stoker_bench.processes import report


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """One row for each depth and round; all queues wait in the same server, and the rounds go through them in turn."""
    with prepared(peer, binary, 1) as bench:
        environment = {**bench.environment(), "BENCH_SERVER": str(bench.server.process)}
        arguments = (str(plan.rounds), str(plan.seconds), *map(str, plan.depths))
        rows: list[Row] = report("stoker_bench.probes.depth", environment, peer, *arguments)
    return rows
