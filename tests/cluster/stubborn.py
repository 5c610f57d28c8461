"""The application of test_stubborn_workers.py: slow to import, frozen, or holding the interpreter lock."""

import ctypes
import os
import signal
import time

from redis import Redis
from shop.tasks import LEDGER, ledger_url

from stoker import Context, Stoker

time.sleep(float(os.environ.get("IMPORT_SECONDS", "0")))
app = Stoker("stubborn")


@app.task()
def freeze_once(ctx: Context) -> None:
    """Stop the whole process, but not the second time."""
    if note(f"{ctx.id} began") == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    note(f"{ctx.id} ended")


@app.task()
def hold_the_lock(ctx: Context, seconds: int) -> None:
    """Sleep in C without giving the interpreter lock back."""
    note(f"{ctx.id} began")
    ctypes.PyDLL(None).sleep(seconds)
    note(f"{ctx.id} ended")


def note(what: str) -> int:
    """Count it in the ledger. Returns how often it happened."""
    with Redis.from_url(ledger_url()) as ledger:
        return int(ledger.hincrby(LEDGER, what, 1))
