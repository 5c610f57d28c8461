"""How often another writer changed what the operator had set, and what follows from it. Pure: moments are monotonic seconds.

Two controllers that each put right what the other did change an object for as long as both run, thousands of times an hour, and
restart pods with each change. So after a few times within a minute the operator says so and steps back.
"""

from msgspec import Struct

WINDOW = 60.0
"""Seconds within which changes are counted."""
QUIET = 300.0
"""Seconds without a change after which a contest is over."""
FORGOTTEN = 3600.0
"""Seconds after which one more change no longer begins the last contest again."""
LONGEST_PAUSE = 60.0


class Contest(Struct, frozen=True):
    """`moments` of the changes within the last `WINDOW`, the last one always; `rounds`: changes since it became a contest."""

    moments: tuple[float, ...] = ()
    rounds: int = 0

    def changed(self, now: float, tolerated: int) -> "Contest":
        """After one more change. Over `tolerated` changes within `WINDOW` are a contest; after one, the first change is."""
        recent = (*(moment for moment in self.moments if now - moment < WINDOW), now)
        rounds = self.rounds if self.moments and now - self.moments[-1] < FORGOTTEN else 0
        return Contest(recent, rounds + 1 if rounds or len(recent) > tolerated else 0)

    def left(self, now: float) -> float:
        """Seconds until the contest is over, if there is no other change; 0 without one."""
        return max(0.0, self.moments[-1] + QUIET - now) if self.rounds else 0.0

    def pause(self, now: float) -> float:
        """Seconds until the operator may set its own again: twice as long after each change of a contest."""
        length = min(LONGEST_PAUSE, 2.0 ** min(self.rounds, 10))
        return max(0.0, self.moments[-1] + length - now) if self.rounds else 0.0
