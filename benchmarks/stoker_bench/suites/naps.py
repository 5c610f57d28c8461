"""Tasks that wait 10 ms, 100 at a time: what share of the ideal 10,000 a second is reached."""

from pathlib import Path

from stoker_bench.bench import Plan, Row, prepared
from stoker_bench.suites.drain import drain
from stoker_bench.suites.sizing import size

SLOTS, IDEAL = 100, 10_000


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """One drain with 100 slots."""

    def once(count: int) -> Row:
        with prepared(peer, binary, count) as bench:
            row = drain(bench, "nap", SLOTS, plan.limit)
        return {**row, "share": row["per_second"] / IDEAL}

    return [once(size(known, plan, once))]
