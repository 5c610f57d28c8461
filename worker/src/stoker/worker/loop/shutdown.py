"""Shutdown of a worker: quiet (takes no more, stays), drain (finishes what runs, then exits), abort (gives back what runs at once).

`process/process.py` maps signals to these, `process/exit.py` ends the process.
"""

from enum import IntEnum


class ShutdownStage(IntEnum):
    """How far a worker is on its way out."""

    WORKING = 0
    QUIET = 1  # takes no more, and stays
    DRAINING = 2  # ends when all that it holds is settled
    ABORTING = 3  # the same, and does not wait for a Redis that is away


class Shutdown:
    """The stage of one worker, which never goes back. Advanced on the event loop; any thread may read it.

    `taking`: new tasks are taken. `draining`: the worker ends once nothing is left to settle. `aborting`: what cannot be settled
    now is left to the end of its lease.
    """

    __slots__ = ("aborting", "draining", "stage", "taking")

    def __init__(self) -> None:
        self.stage = ShutdownStage.WORKING
        self.taking, self.draining, self.aborting = True, False, False  # plain fields: read several times a turn

    def advance(self, stage: ShutdownStage) -> None:
        """Go to this stage, unless it is behind us."""
        self.stage = stage = max(self.stage, stage)
        self.taking = stage is ShutdownStage.WORKING
        self.draining = stage >= ShutdownStage.DRAINING
        self.aborting = stage is ShutdownStage.ABORTING
