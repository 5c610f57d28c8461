"""Exit of a worker process, even where tasks have left threads behind that cannot be stopped."""

import logging
import os
import sys
import threading
import time
from contextlib import suppress

_log = logging.getLogger("stoker.worker")


def exit_within(seconds: float, code: int) -> None:
    """Let Python exit by itself, and exit with this code if it has not by then: it would wait for threads without limit."""
    threading.Thread(target=_exit_after, args=(seconds, code), name="stoker-exit", daemon=True).start()


def exit_now(code: int) -> None:
    """Exit without waiting for anything, after flushing stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _exit_after(seconds: float, code: int) -> None:
    time.sleep(seconds)
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    _log.warning("exiting without waiting for threads that tasks have left behind", extra={"threads": left})
    exit_now(code)
