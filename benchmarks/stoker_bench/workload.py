"""The tasks that every peer runs, and what the benchmark tells its processes.

Two forms of each: for event loops and, where a library's fast path is threads, blocking. Every task returns its
number, so that every peer has a result to keep.
"""

import asyncio
import os
import time
from pathlib import Path

from stoker_bench.ledger import Ledger

NAP = 0.010
URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:1/0")
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "0"))
"""0 leaves it to the peer's own choice for no-op tasks."""
QUEUE = os.environ.get("BENCH_QUEUE", "bench")
PARTITIONS = int(os.environ.get("BENCH_PARTITIONS", "1"))
LEDGER = Ledger.open(Path(os.environ["BENCH_LEDGER"]))


async def noop(number: int, text: str) -> int:
    """Nothing but the mark that it ran."""
    LEDGER.ran(number)
    return number


async def stamp(number: int, text: str) -> int:
    """Nothing but the mark when it began."""
    LEDGER.stamp(number)
    return number


async def nap(number: int, text: str) -> int:
    """Wait 10 ms, as for a reply of another service."""
    LEDGER.begin()
    await asyncio.sleep(NAP)
    LEDGER.ran(number)
    return number


def noop_blocking(number: int, text: str) -> int:
    """`noop` for threads."""
    LEDGER.ran(number)
    return number


def stamp_blocking(number: int, text: str) -> int:
    """`stamp` for threads."""
    LEDGER.stamp(number)
    return number


def nap_blocking(number: int, text: str) -> int:
    """`nap` for threads."""
    LEDGER.begin()
    time.sleep(NAP)
    LEDGER.ran(number)
    return number
