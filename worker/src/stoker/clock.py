"""Time, injected: whoever needs the hour takes a `Clock`, so that a test can move it.

Redis' own clock decides about leases and due tasks; this one serves logs, envelopes and waiting loops.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since the epoch."""

system: Clock = time.time


def milliseconds(clock: Clock = system) -> int:
    """Milliseconds since the epoch, the unit of every time on the wire."""
    return int(clock() * 1000)
