"""The readings of time, said a second time: what a call makes of Redis' clock, wherever that has been put. Part of the model."""

from collections.abc import Mapping
from typing import NamedTuple

GAP, DOUBT = 1000, 15_000


class Now(int):
    """The monotone clock in ms, with what a script reads beside it: the real clock, and what is sure of leaps, or left out."""

    wall: int
    sure: int
    attended: int


class Clocks(NamedTuple):
    """What :meta holds of time."""

    now: int = 0
    real: int = 0
    leapt: int = 0
    behind: int = 0
    until: int = 0

    @classmethod
    def of(cls, meta: Mapping[bytes, bytes]) -> "Clocks":
        leapt, *doubt = map(int, meta.get(b"gaps", b"0").split())
        return cls(int(meta.get(b"logical", 0)), int(meta.get(b"real", 0)), leapt, *doubt)

    @property
    def doubt(self) -> int:
        return self.behind if self.until > self.now else 0

    @property
    def reading(self) -> Now:
        now = Now(self.now)
        now.wall, now.sure, now.attended = self.real, self.now - self.doubt, self.now - self.leapt
        return now

    def follow(self, real: int) -> "Clocks":
        """After a call when the real clock says this."""
        if not self.now:
            return Clocks(real, real)
        little = min(max(0, real - self.real), GAP)
        leap = max(0, real - self.now - little)
        now = self.now + little + leap
        if not leap and not self.doubt:
            return self._replace(now=now, real=real)
        until = now + DOUBT if leap else self.until
        behind = max(0, self.doubt - little) + leap if until > now else 0
        return Clocks(now, real, self.leapt + leap, behind, until)

    def attend(self, real: int, ms: int) -> "Clocks":
        """After calls every second for so long, from when the real clock says this."""
        clocks = self.follow(real)
        for passed in (*range(GAP, ms, GAP), ms):
            clocks = clocks.follow(real + passed)
        return clocks

    def columns(self) -> list[object]:
        gaps = ("gaps", f"{self.leapt} {self.behind} {self.until}") if self.until else ()
        return ["logical", self.now, "real", self.real, *gaps]
