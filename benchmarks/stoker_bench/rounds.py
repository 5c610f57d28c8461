"""The order of things: for each suite and server, round by round, in every round each peer once."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker_bench import processes
from stoker_bench.bench import Plan, Row
from stoker_bench.ledger import Ledger
from stoker_bench.processes import Failed
from stoker_bench.suites import SUITES, Suite


def run(names: Sequence[str], peers: Sequence[str], servers: Mapping[str, Path], plan: Plan, facts: Row, out: Path) -> None:
    """Measure, and write one file of raw data per suite."""
    described = {peer: _described(peer) for peer in peers}
    for name in names:
        rows = [row for server, binary in servers.items() for row in _rows(name, SUITES[name], peers, server, binary, plan)]
        data = {"suite": name, "facts": facts, "plan": plan._asdict(), "peers": described, "rows": rows}
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(_readable(data))


def _described(peer: str) -> Row:
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as name:
        ledger = Path(name) / "ledger"
        Ledger.create(ledger, 1, 0)
        found: Row = processes.report("stoker_bench.child", {"BENCH_LEDGER": str(ledger)}, peer, "describe", peer)
    return found


def _rows(name: str, suite: Suite, peers: Sequence[str], server: str, binary: Path, plan: Plan) -> Iterator[Row]:
    asked = [peer for peer in suite.peers if peer in peers]
    known: dict[str, Row] = {peer: {} for peer in asked}
    for number in range(plan.rounds if suite.rounds else 1):
        # The order turns, so that nobody always runs after the same neighbour.
        turned = asked[number % len(asked) :] + asked[: number % len(asked)] if asked else []
        for peer in turned:
            place = {"server": server, "peer": peer, "round": number}
            try:
                found = suite.measure(peer, binary, plan, known[peer])
            except Failed as error:
                found = [{"failed": str(error)}]
            for row in found:
                print(f"{name} {server} {number} {peer}: {_brief(row)}", file=sys.stderr, flush=True)
                yield {**place, **row}


def _brief(row: Row) -> str:
    def short(value: Any) -> Any:
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return ", ".join(f"{key} {short(value)}" for key, value in row.items() if not isinstance(value, list))


def _readable(data: Row) -> str:
    """JSON with one row a line, so that two runs can be compared."""
    rows = ",\n".join("    " + json.dumps(row) for row in data["rows"])
    head = json.dumps({key: value for key, value in data.items() if key != "rows"}, indent=2)
    return head.removesuffix("\n}") + ',\n  "rows": [\n' + rows + "\n  ]\n}\n"
