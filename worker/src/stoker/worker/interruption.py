"""The soft timeout of a plain function on a process' main thread: SoftTimeout is raised in it, wherever it is."""

import signal
from collections.abc import Callable
from typing import Any, TypeVar

from stoker.errors import SoftTimeout

T = TypeVar("T")


def interrupted(function: Callable[[], T], after: float) -> T:
    """Call it, and raise SoftTimeout in it once after so many seconds; code that is not Python comes back to Python first."""

    def interrupt(*_: Any) -> None:
        raise SoftTimeout(f"did not end within {after:g} s")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        return function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
