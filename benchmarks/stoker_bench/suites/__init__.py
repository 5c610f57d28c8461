"""What is measured: one module per question. A suite's `measure` gives one row for one peer and one round."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from stoker_bench.bench import Plan, Row
from stoker_bench.peers import PEERS, STOKER
from stoker_bench.suites import depth, drain, enqueue, floors, latency, memory, naps, partitions, workers


class Suite(NamedTuple):
    """A question, whom it is asked, and how one answer is got: (peer, server's binary, plan, what is known) -> rows."""

    question: str
    measure: Callable[[str, Path, Plan, Row], list[Row]]
    peers: Sequence[str] = PEERS
    rounds: bool = True


SUITES = {
    "drain": Suite("How many no-op tasks a second does one worker process run, and what do they cost?", drain.measure),
    "enqueue": Suite("How many tasks a second does one producer send: in bulk, gathered, one by one?", enqueue.measure),
    "latency": Suite("How long from the call of enqueue to the task's first line, when all is idle?", latency.measure),
    "naps": Suite("What share of the ideal do 100 slots reach with tasks that wait 10 ms?", naps.measure),
    "memory": Suite("How many bytes of the server does a waiting task take?", memory.measure),
    "depth": Suite("Does a task cost more when many wait?", depth.measure, (STOKER,), rounds=False),
    "partitions": Suite("Does a queue that is too much for one Redis run faster over two or three?", partitions.measure, (STOKER,)),
    "workers": Suite("What does a queue cost its Redis while many workers wait on it?", workers.measure, (STOKER,), rounds=False),
    "floors": Suite("What would no guarantees cost?", floors.measure, (STOKER,)),
}
