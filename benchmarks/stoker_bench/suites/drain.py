"""No-op tasks, preloaded, drained by one worker process."""

from pathlib import Path

from stoker_bench.bench import Bench, Plan, Row, prepared
from stoker_bench.ledger import At
from stoker_bench.suites.sizing import size


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """One drain at the peer's own choice of concurrency."""

    def once(count: int) -> Row:
        with prepared(peer, binary, count) as bench:
            return drain(bench, "noop", 0, plan.limit)

    return [once(size(known, plan, once))]


def drain(bench: Bench, task: str, concurrency: int, limit: float) -> Row:
    """Fill the queue, start the worker, wait for the last task."""
    count = len(bench.ledger.counts)
    with bench.producer() as producer:
        before, transferred = bench.server.cpu, bench.server.network
        filled = producer.do("fill", task=task, count=count, text="")
        sent = bench.server.cpu
    with bench.worker(concurrency) as worker:
        bench.wait(worker, limit)
        row = bench.drained()
        row["worker_mb"], row["all_mb"] = worker.memory(bench.ledger.head[At.WORKER])
        row["network_bytes"] = (bench.server.network - transferred) / count
    return {**row, "preloaded": filled["waiting"], "server_enqueue_cpu_us": (sent - before) / count / 1e3}
