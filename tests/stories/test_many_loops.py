"""Scripts and frameworks that run an event loop for each call: as many connections are open as loops are, not as there were."""

import asyncio
import gc
import subprocess
import sys

import pytest

from stoker import Stoker

LOOPS = 1000
LIMIT = 64
"""Open files that the process may have."""

SCRIPT = f"""
import asyncio, resource, sys
from stoker import Stoker

resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
app = Stoker("shop", redis=sys.argv[1])

@app.task()
async def note(n: int) -> None: ...

async def enqueue(n):
    await note.enqueue(n)

for n in range({LOOPS}):
    run(enqueue(n))
"""
BY_ASYNCIO_RUN = "from asyncio import run"
BY_HAND = """
import asyncio
def run(work):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(work)
    loop.close()
"""


@pytest.mark.parametrize("run", [BY_ASYNCIO_RUN, BY_HAND], ids=["asyncio.run", "loop.close"])
async def test_a_loop_for_each_call_leaves_no_connections_behind(app: Stoker, run: str) -> None:
    script = run + SCRIPT
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-c", script, app.redis_url], timeout=120, capture_output=True, text=True, check=False
        )
    )
    assert (done.returncode, done.stderr) == (0, "")
    [stats] = await app.client.inspector.stats(["default"])
    assert stats.ready == LOOPS


async def test_closing_leaves_the_next_connection_of_the_same_loop_alone(app: Stoker) -> None:
    @app.task()
    async def note(n: int) -> None: ...

    for n in range(5):
        await note.enqueue(n)
        await app.close()
        client = app.client
        gc.collect()
        await asyncio.sleep(0.01)  # what is collected closes in the background
        assert app.client is client
    [stats] = await app.client.inspector.stats(["default"])
    assert stats.ready == 5
