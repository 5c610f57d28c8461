"""The injected clock: code that needs the time takes a `Clock`, so that tests can move it.

Redis' own clock decides about leases and due tasks; this one is for logs, envelopes and polling loops.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since the epoch."""

system: Clock = time.time


def milliseconds(clock: Clock = system) -> int:
    """Milliseconds since the epoch, the unit of every time on the wire."""
    return int(clock() * 1000)
