"""Enqueuing where there is no event loop: web frameworks with threads, scripts, children that were forked."""

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from stoker import Invalid, RedisUnavailable, Stoker, chain, group
from stoker.queue.records import TaskStatus
from stoker.rules.states import TaskState
from tests.stories.working import working


async def test_a_view_without_an_event_loop_enqueues_and_waits(app: Stoker) -> None:
    @app.task()
    async def add(a: int, b: int) -> int:
        return a + b

    def view() -> tuple[int, TaskState, int]:
        handle = add.enqueue_sync(2, b=3)
        other = add.options(delay=600).enqueue_sync(1, 1)
        assert other.cancel_sync() == "cancelled"
        receipts = app.enqueue_many_sync([add.prepare(n, n) for n in range(3)])
        return handle.result_sync(timeout=5), handle.status_sync().state, len(receipts)

    async with working(app):
        assert await asyncio.to_thread(view) == (5, TaskState.SUCCEEDED, 3)


async def test_a_workflow_is_sent_and_awaited_without_an_event_loop(app: Stoker) -> None:
    @app.task()
    async def double(n: int) -> int:
        return n * 2

    @app.task()
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    def view() -> tuple[int, list[int], TaskState, list[TaskStatus]]:
        handle = chain(group(double.prepare(1), double.prepare(2)), total.piped()).enqueue_sync()
        later = chain(double.options(delay=600).prepare(1), double.piped()).enqueue_sync()
        assert [task.state for task in later.pending_sync()] == [TaskState.SCHEDULED]
        assert later.cancel_sync() == "cancelled"
        both = group(double.prepare(3), double.prepare(4)).enqueue_sync()
        return handle.result_sync(timeout=5), both.result_sync(timeout=5), handle.status_sync().state, handle.pending_sync()

    async with working(app):
        assert await asyncio.to_thread(view) == (6, [6, 8], TaskState.SUCCEEDED, [])
    with pytest.raises(Invalid, match="await enqueue"):
        group(double.prepare(1)).enqueue_sync()
    with pytest.raises(Invalid, match="nothing to enqueue"):
        chain().enqueue_sync()


async def test_many_threads_enqueue_at_once(app: Stoker) -> None:
    @app.task()
    async def note(n: int) -> None: ...

    def burst() -> set[str]:
        with ThreadPoolExecutor(16) as threads:
            return {handle.id for handle in threads.map(note.enqueue_sync, range(500))}

    ids = await asyncio.to_thread(burst)
    [stats] = await app.client.inspector.stats(["default"])
    assert (len(ids), stats.ready) == (500, 500)


async def test_on_an_event_loop_it_says_what_to_do_instead(app: Stoker) -> None:
    @app.task()
    async def note() -> None: ...

    with pytest.raises(Invalid, match="await enqueue"):
        note.enqueue_sync()


def test_without_redis_it_ends_in_bounded_time() -> None:
    app = Stoker("shop", redis="redis://127.0.0.1:1/0")

    @app.task()
    async def note() -> None: ...

    started = time.monotonic()
    with pytest.raises(RedisUnavailable):
        note.enqueue_sync()
    assert time.monotonic() - started < 10


FORKING = """
import os, sys
from stoker import Stoker
app = Stoker("shop", redis=sys.argv[1])

@app.task()
def note(n: int) -> None: ...

note.enqueue_sync(0)
children = []
for n in (1, 2):
    if not (pid := os.fork()):
        note.enqueue_sync(n)
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
note.enqueue_sync(3)
"""


async def test_a_forked_child_makes_its_own_connections_and_the_process_ends(app: Stoker) -> None:
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-c", FORKING, app.redis_url], timeout=30, capture_output=True, text=True, check=False
        )
    )
    assert (done.returncode, done.stderr) == (0, "")
    [stats] = await app.client.inspector.stats(["default"])
    assert stats.ready == 4


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from stoker import Stoker
app = Stoker("shop", redis=sys.argv[1])

@app.task()
def note(n: int) -> None: ...

handles = [note.enqueue_sync(0), note.enqueue_sync(1)]
jobs = [gevent.spawn(note.enqueue_sync, n) for n in range(20)]
gevent.joinall(jobs, raise_error=True)
assert len({handle.id for handle in handles + [job.value for job in jobs]}) == 22
assert handles[0].status_sync().state == "ready"
"""

AT_EXIT = """
import atexit, sys

def late():
    handle = note.enqueue_sync(1)
    print(handle.status_sync().state, flush=True)

if sys.argv[2] == "registered before the import": atexit.register(late)
from stoker import Stoker
app = Stoker("shop", redis=sys.argv[1])

@app.task()
def note(n: int) -> None: ...

if sys.argv[2] == "registered before the first call": atexit.register(late)
if sys.argv[2] != "the only call": note.enqueue_sync(0)
if sys.argv[2] in ("registered after it", "the only call"): atexit.register(late)
if sys.argv[3:]:  # as from Python 3.12 on, while the interpreter ends
    import threading
    def refused(self): raise RuntimeError("can't create new thread at interpreter shutdown")
    threading.Thread.start = refused
"""


async def script(text: str, *arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(
        lambda: subprocess.run([sys.executable, "-c", text, *arguments], timeout=30, capture_output=True, text=True, check=False)
    )
    return done.returncode, done.stdout, done.stderr


async def test_greenlets_enqueue_side_by_side(app: Stoker) -> None:
    assert await script(UNDER_GEVENT, app.redis_url) == (0, "", "")
    [stats] = await app.client.inspector.stats(["default"])
    assert stats.ready == 22


@pytest.mark.parametrize(
    "when", ["registered before the import", "registered before the first call", "registered after it", "the only call"]
)
async def test_an_exit_handler_enqueues_and_asks(app: Stoker, when: str) -> None:
    # By name: no thread looks it up any more.
    assert await script(AT_EXIT, app.redis_url.replace("127.0.0.1", "localhost"), when) == (0, "ready\n", "")


async def test_an_exit_handler_enqueues_where_no_thread_can_be_started(app: Stoker) -> None:
    assert await script(AT_EXIT, app.redis_url, "the only call", "without threads") == (0, "ready\n", "")
