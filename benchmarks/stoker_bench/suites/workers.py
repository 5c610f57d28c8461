"""Stoker alone: what a queue costs its Redis while 1 to 200 workers wait on it, and how fast one of them starts a task."""

import time
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles

from stoker_bench.bench import Bench, Plan, Row, prepared
from stoker_bench.processes import Failed

NAMESPACE, QUEUE = "stoker", "bench"
STARTED_AT_ONCE = 4
WARM, PAUSE = 20, 0.04
SETTLES = 3.0
"""Seconds after the last worker has come until it is measured: first heartbeats and connections are over."""
SHORTEST = 10.0
"""Seconds of silence that are measured at least: two of a worker's waits."""


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """One row for each number of workers: CPU and commands of an idle server, then latency from enqueue to start."""
    return [_with(peer, binary, plan, count) for count in plan.workers]


def _with(peer: str, binary: Path, plan: Plan, count: int) -> Row:
    size = WARM + plan.samples
    with prepared(peer, binary, size) as bench, ExitStack() as stack:
        workers = []
        for number in range(count):
            workers.append(stack.enter_context(bench.worker(concurrency=16, number=number)))
            if number % STARTED_AT_ONCE == 0:
                _wait(bench, number + 1 - STARTED_AT_ONCE, plan.limit)
        _wait(bench, count, plan.limit)
        time.sleep(SETTLES)
        row: Row = {"workers": count, **_idle(bench, max(SHORTEST, plan.seconds))}
        if count:
            producer = stack.enter_context(bench.producer())
            producer.do("trickle", first=0, count=WARM, pause=PAUSE)
            began = producer.do("trickle", first=WARM, count=plan.samples, pause=PAUSE)["began"]
            bench.wait(workers[0], plan.limit)
            stamps = bench.ledger.stamps[WARM:].tolist()
            samples = [(start - begin) / 1e3 for start, begin in zip(stamps, began, strict=True)]
            percent = quantiles(samples, n=100, method="inclusive")
            row |= {"p50_us": percent[49], "p99_us": percent[98], "repeated": bench.ledger.repeated}
    return row


def _idle(bench: Bench, seconds: float) -> Row:
    """What happens in the server while nothing is to be done."""
    commands, cpu, began = bench.server.commands, bench.server.cpu, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    cpu = bench.server.cpu - cpu
    asked = bench.server.commands - commands - 1  # the second question itself
    return {"idle_seconds": took, "commands_a_second": asked / took, "server_cpu_ms_a_second": cpu / 1e6 / took}


def _wait(bench: Bench, count: int, limit: float) -> None:
    """Until so many workers have said that they live."""
    deadline = time.monotonic() + limit
    while int(bench.server.ask("HLEN", f"{{{NAMESPACE}:{QUEUE}}}:workers")) < count:
        if time.monotonic() > deadline:
            raise Failed(f"{count} workers were not there within {limit:.0f} s")
        time.sleep(0.05)
