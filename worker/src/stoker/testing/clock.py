"""The clock of a test: every script on the kit's server goes by it. It stands still until the test moves it."""

import time
from datetime import UTC, datetime, timedelta

from stoker.testing.conversation import Conversation

KEY = "stoker.testing:time"
EXPRESSION = f"redis.call('LRANGE', '{KEY}', 0, 1)"
"""Answers as TIME does: seconds and microseconds."""


class Clock:
    """Called, it is the seconds since the epoch, as any `stoker.clock.Clock`.

    Before each move it catches up with what has passed meanwhile, so that `datetime.now() + timedelta(...)` in the code under
    test means what it says.
    """

    def __init__(self, redis: Conversation) -> None:
        self._redis = redis
        self.reset()

    def __call__(self) -> float:
        return self._now / 1_000_000

    def __repr__(self) -> str:
        return f"<Clock {self.now():%Y-%m-%d %H:%M:%S.%f}>"

    def now(self) -> datetime:
        """Where it stands, in UTC."""
        return datetime.fromtimestamp(self(), UTC)

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass. Nothing runs by that: see `Kit.run_until_idle`."""
        ahead = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        self._set(self._now + self._passed() + round(ahead * 1_000_000))

    def move_to(self, moment: datetime) -> None:
        """Put it there. Where that is back, queues go on from the latest moment they have seen, at half speed, as anywhere."""
        self._passed()
        self._set(round(moment.timestamp() * 1_000_000))

    def reset(self) -> None:
        """Real time."""
        self._read = time.monotonic()
        self._set(time.time_ns() // 1000)

    def _passed(self) -> int:
        before, self._read = self._read, time.monotonic()
        return round((self._read - before) * 1_000_000)

    def _set(self, microseconds: int) -> None:
        self._now = microseconds
        self._redis.ask(("MULTI",), ("DEL", KEY), ("RPUSH", KEY, *divmod(microseconds, 1_000_000)), ("EXEC",))
