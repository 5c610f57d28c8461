"""What a waiting task takes in the server, arguments of 256 bytes of JSON."""

from pathlib import Path

from stoker_bench.bench import Plan, Row, prepared

PAYLOAD = 256
TEXT = "x" * (PAYLOAD - len('{"number":12345,"text":""}'))


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """Memory before and after, once the fixed cost of an empty queue and its connections is paid."""
    count = min(plan.largest, 20_000)
    with prepared(peer, binary, 1) as bench, bench.producer() as producer:
        producer.do("fill", task="noop", count=100, text=TEXT)
        before, cpu = bench.server.memory, bench.server.cpu
        producer.do("fill", task="noop", count=count, text=TEXT)
        used, cpu = bench.server.memory - before, bench.server.cpu - cpu
    return [{"tasks": count, "bytes": used / count, "server_cpu_us": cpu / count / 1e3}]
