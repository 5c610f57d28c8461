"""How a worker process exits, whatever its tasks have left behind in it."""

import logging
import os
import sys
import threading
import time
from contextlib import suppress

_log = logging.getLogger("stoker.worker")


def leave_within(seconds: float, code: int) -> None:
    """Let Python end by itself, and end it with this exit code if it has not by then: it would wait for threads for ever."""
    threading.Thread(target=_leave, args=(seconds, code), name="stoker-exit", daemon=True).start()


def end_now(code: int) -> None:
    """End this process without waiting for anything; what was written is out."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _leave(seconds: float, code: int) -> None:
    time.sleep(seconds)
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    _log.warning("not waiting any longer for what tasks have left behind", extra={"threads": left})
    end_now(code)
