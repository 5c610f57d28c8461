"""Application of test_a_small_worker.py: tasks that measure the memory and the modules of their worker."""

import sys

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
