"""Which tasks a dump of `faulthandler` shows."""

import threading
import time

import pytest

from stoker import Stoker
from stoker.app.app import application_of
from stoker.worker.loop.lock_watch import HELD_AFTER, LockWatch, suspects, task_functions

DUMP = """Timeout (0:00:05)!
Thread 0x00007f01 (most recent call first):
  File "/lib/threading.py", line 331 in wait
  File "/app/my shop.py", line 7 in parcel

Thread 0x00007f02 (most recent call first):
  File "/lib/re.py", line 1 in match
  File "/app/shop.py", line 20 in <lambda>
  File "/app/shop.py", line 12 in price
  File "/lib/asyncio/events.py", line 80 in _run
Current thread 0x00007f03 (most recent call first):
  <no Python frame>
"""
TASKS = {("/app/shop.py", "price"): "shop.price", ("/app/my shop.py", "parcel"): "parcel", ("/app/shop.py", "other"): "other"}


def test_each_thread_that_runs_a_task_is_a_suspect() -> None:
    found = {name: [str(frame) for frame in stack] for name, stack in suspects(DUMP, TASKS)}
    assert found.keys() == {"shop.price", "parcel"}
    assert found["shop.price"][:3] == ["/lib/re.py:1 match", "/app/shop.py:20 <lambda>", "/app/shop.py:12 price"]


def test_a_task_is_found_by_its_own_function() -> None:
    app = Stoker("shop")

    @app.task(name="parcels.weigh")
    def weigh() -> None: ...

    assert task_functions(application_of(app).declarations.values()) == {(__file__, "weigh"): "parcels.weigh"}


@pytest.mark.parametrize(("lease", "seconds"), [(30, HELD_AFTER), (3600, HELD_AFTER), (6, 2), (1, 1 / 3)])
def test_it_is_logged_before_a_lease_ends(lease: float, seconds: float) -> None:
    assert LockWatch([], lease).held_after == pytest.approx(seconds)


def test_a_thread_that_only_computes_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Python passes the lock on every few milliseconds."""
    watch = LockWatch([], lease=6)
    watch.start()
    until = time.monotonic() + 3
    while time.monotonic() < until:
        pass
    watch.stop()
    assert watch not in threading.enumerate()
    assert not [each for each in caplog.records if "interpreter lock" in each.message]
