"""`benchmarks/run`: measure, then write the table and the plots."""

import argparse
import signal
import sys
from pathlib import Path

from stoker_bench import facts, report, rounds, server
from stoker_bench.bench import FULL, QUICK
from stoker_bench.environments import BENCHMARKS, cache, interpreter
from stoker_bench.peers import PEERS
from stoker_bench.suites import SUITES


def main() -> None:
    """Read the command line and do it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and workers go, too
    options = _parser().parse_args()
    out = Path(options.out) if options.out else (cache() / "quick" if options.quick else BENCHMARKS / "results")
    peers = options.peers.split(",") if options.peers else list(PEERS)
    suites = options.suites or list(SUITES)
    _check("peer", peers, PEERS)
    _check("suite", suites, [*SUITES, "setup", "report"])
    for peer in peers:
        interpreter(peer)
    if suites == ["setup"]:
        return
    if suites != ["report"]:
        servers = _servers(options.server, options.quick)
        plan = QUICK if options.quick else FULL
        plan = plan._replace(rounds=options.rounds or plan.rounds, seconds=options.seconds or plan.seconds)
        rounds.run(suites, peers, servers, plan, facts.machine(servers), out)
    report.write(out)
    print(f"written: {out}/README.md", file=sys.stderr)


def _servers(wanted: str, quick: bool) -> dict[str, Path]:
    found = server.binaries()
    if wanted == "all":
        return found
    if wanted:
        _check("server", [wanted], list(found))
        return {wanted: found[wanted]}
    return dict([next(iter(found.items()))]) if quick else found


def _check(kind: str, given: list[str], known: object) -> None:
    names = list(known)  # type: ignore[call-overload]
    for name in given:
        if name not in names:
            raise SystemExit(f"error: no {kind} is named {name!r}; there are {', '.join(names)}")


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:9} {suite.question}" for name, suite in SUITES.items()]
    parser = argparse.ArgumentParser(
        prog="benchmarks/run",
        description="Stoker beside its peers, each in an environment of its own.",
        epilog="suites:\n"
        + "\n".join(lines)
        + "\n  setup     only make the environments\n  report    only write table and plots anew",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", metavar="suite", help="default: all")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes; results go to the cache, not the checkout"
    )
    parser.add_argument("--peers", default="", help="comma separated; default: all")
    parser.add_argument("--server", default="", help="valkey, redis or all; default: all there are, with --quick the first")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0, help="how long one measurement shall take, about")
    parser.add_argument("--out", default="", help="default: benchmarks/results")
    return parser


if __name__ == "__main__":
    main()
