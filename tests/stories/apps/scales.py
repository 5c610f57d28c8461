"""Application of test_a_small_worker.py: tasks that measure the memory and the modules of their worker."""

import sys
from pathlib import Path

from stoker import Stoker
from stoker.worker.system.memory import resident

app = Stoker("scales")


@app.task()
async def nothing(number: int) -> int:
    return number


@app.task()
async def weight() -> int:
    """Bytes."""
    return resident()


@app.task()
async def loaded() -> list[str]:
    """The modules."""
    return sorted(sys.modules)


def _litter() -> None:
    """8 MB in a reference cycle."""
    cycle: dict[str, object] = {"data": b"x" * (8 << 20)}
    cycle["self"] = cycle


@app.task()
async def litter() -> None:
    """On the event loop."""
    _litter()


@app.task()
def litter_in_a_thread() -> None:
    """In a thread."""
    _litter()


@app.task(executor="process")
def litter_in_a_child() -> int:
    """In a child; the most memory that it has taken."""
    _litter()
    return peak()


@app.task()
async def highest() -> int:
    """The most memory that the worker has taken."""
    return peak()


def peak() -> int:
    # Not ru_maxrss: a process inherits that of the one that forked it.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
