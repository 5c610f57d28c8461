"""Stoker alone: one queue over one, two and three nodes of a cluster, where the nodes are what is scarce."""

import tempfile
from itertools import count
from pathlib import Path

from stoker_bench import cluster
from stoker_bench.bench import Bench, Plan, Row
from stoker_bench.cluster import NODES, Cluster

SHARE = 0.1
"""Of a core, for each node: then three of them together ask for less than a worker process can do."""
SLOTS_PER_PARTITION = 200
PER_SECOND = 8_000
"""What one such node does, roughly: only for how many tasks a round gets."""


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """A row each for one, two and three partitions, every one of them on a node of its own."""
    return [_one(peer, binary, plan, partitions) for partitions in range(1, NODES + 1)]


def _one(peer: str, binary: Path, plan: Plan, partitions: int) -> Row:
    tasks = int(min(plan.largest, PER_SECOND * partitions * plan.seconds))
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as name, cluster.running(binary, Path(name)) as running:
        bench = Bench(peer, running, Path(name), tasks)
        bench.extra = {"BENCH_QUEUE": _queue(running), "BENCH_PARTITIONS": str(partitions)}
        with bench.producer() as producer:
            producer.do("fill", task="noop", count=tasks, text="")
        with (
            cluster.held_to(SHARE, [node.process for node in running.nodes]),
            bench.worker(SLOTS_PER_PARTITION * partitions) as worker,
        ):
            before = [node.cpu for node in running.nodes]
            bench.wait(worker, plan.limit)
            row = bench.drained()
            used = [node.cpu - was for node, was in zip(running.nodes, before, strict=True)]
    shares = [cpu / 1e9 / row["seconds"] for cpu in used]
    return {**row, "partitions": partitions, "server_cpu_us": sum(used) / tasks / 1e3, "node_shares": shares, "held_to": SHARE}


def _queue(running: Cluster) -> str:
    """A name whose first partitions lie on different nodes."""
    names = (f"bench-{number}" for number in count())
    return next(
        name
        for name in names
        if len({running.node_of(f"{{stoker:{place}}}") for place in (name, f"{name}:1", f"{name}:2")}) == NODES
    )
