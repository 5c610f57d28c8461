"""Application of test_slow_starts.py: its import takes until the file named by THAWED exists."""

import os
import time
from pathlib import Path

from stoker import Stoker

thawed = Path(os.environ["THAWED"])
while not thawed.exists():
    time.sleep(0.02)
if thawed.read_text():
    raise RuntimeError(thawed.read_text())

app = Stoker("glacier")


@app.task()
async def calve() -> int:
    """A task."""
    return os.getpid()
