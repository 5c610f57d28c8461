"""The periodic tasks of a TaskQueue."""

from typing import Any

from msgspec import field

from stoker.errors import Invalid
from stoker.manifest.fields import Priority, Spec
from stoker.manifest.policies import RetrySpec
from stoker.rules.message import encode_payload
from stoker.rules.schedule import CatchUp, Definition, Overlap, cron
from stoker.rules.units import Duration


class Schedule(Spec, frozen=True):
    """A periodic task; see rules/schedule.py."""

    name: str
    cron: str
    task: str
    time_zone: str = "UTC"
    payload: dict[str, Any] = field(default_factory=dict)
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    jitter: Duration = Duration(0)
    priority: Priority = 0
    timeout: Duration | None = None
    soft_timeout: Duration | None = None
    expires: Duration | None = None
    retry: RetrySpec | None = None
    headers: dict[str, str] = field(default_factory=dict)
    suspend: bool = False

    def __post_init__(self) -> None:
        try:
            _ = self.definition
        except Invalid as error:
            raise ValueError(str(error)) from error

    @property
    def definition(self) -> Definition:
        """The definition as stoker.rules takes it."""
        strictness = {"overlap": self.overlap, "catch_up": self.catch_up}
        timing = cron(self.cron, time_zone=self.time_zone, jitter=float(self.jitter), **strictness)
        return Definition(
            self.name,
            timing,
            self.task,
            encode_payload(self.payload),
            self.priority,
            self.suspend,
            timeout=_seconds(self.timeout),
            soft_timeout=_seconds(self.soft_timeout),
            expires=_seconds(self.expires),
            retry=self.retry.policy().numbers if self.retry else None,
            headers=self.headers,
        )


def _seconds(duration: Duration | None) -> float | None:
    return None if duration is None else float(duration)
