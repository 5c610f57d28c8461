"""Minding: when this worker is to look for chores of its partition, as replies to fetches and heartbeats say (lua/_minding.lua)."""

import asyncio


class Minding:
    """Belongs to one event loop. `due` is set when the worker is to look; the chore that looks clears it.

    `mine`: whether this worker was the minder when it looked last.
    """

    def __init__(self) -> None:
        self.due = asyncio.Event()
        self.mine = False

    def begin_in(self, seconds: float) -> None:
        """Look in this many seconds. A look that comes too often does no harm: Redis knows who minds."""
        if seconds <= 0:
            self.due.set()
        else:
            asyncio.get_running_loop().call_later(seconds, self.due.set)
