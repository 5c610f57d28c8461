"""From the call of enqueue to the first line of the task, one at a time, the worker idle in between."""

from pathlib import Path
from statistics import quantiles

from stoker_bench.bench import Plan, Row, prepared

WARM, PAUSE = 20, 0.04


def measure(peer: str, binary: Path, plan: Plan, known: Row) -> list[Row]:
    """One row with all samples, in microseconds."""
    count = WARM + plan.samples
    with prepared(peer, binary, count) as bench, bench.producer() as producer, bench.worker() as worker:
        producer.do("trickle", first=0, count=WARM, pause=PAUSE)
        bench.wait_for(worker, WARM - 1, plan.limit)
        began = producer.do("trickle", first=WARM, count=plan.samples, pause=PAUSE)["began"]
        bench.wait(worker, plan.limit)
        started = bench.ledger.stamps[WARM:].tolist()
        repeated = bench.ledger.repeated
    samples = [(start - begin) / 1e3 for start, begin in zip(started, began, strict=True)]
    percent = quantiles(samples, n=100, method="inclusive")
    return [{"samples": [round(sample) for sample in samples], "p50_us": percent[49], "p99_us": percent[98], "repeated": repeated}]
