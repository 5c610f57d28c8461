"""Sending tasks: in bulk, a thousand single enqueues gathered, one by one and awaited. No worker runs."""

from pathlib import Path

from stoker_bench.bench import Plan, Row, prepared
from stoker_bench.processes import Failed

WAYS = ("bulk", "gather", "single")


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """One row for each way, each on a server of its own."""
    return [_way(peer, binary, plan, way) for way in WAYS]


def _way(peer: str, binary: Path, plan: Plan, way: str) -> Row:
    with prepared(peer, binary, 1) as bench, bench.producer() as producer:
        sent = producer.do("rate", way=way, seconds=plan.seconds, text="", server=bench.server.process)
    count = sent["count"]
    if sent["arrived"] != count:
        raise Failed(f"{count} tasks were sent, {sent['arrived']} arrived")
    return {
        "way": way,
        "tasks": count,
        "seconds": sent["seconds"],
        "per_second": count / sent["seconds"],
        "client_cpu_us": sent["client_cpu"] / count * 1e6,
        "server_cpu_us": sent["server_cpu"] / count * 1e6,
    }
