"""The clock of a test, used by every script on the kit's server. It stands still until the test moves it."""

import time
from datetime import UTC, datetime, timedelta

from stoker.testing.blocking_client import BlockingClient

KEY = "stoker.testing:time"
EXPRESSION = f"redis.call('LRANGE', '{KEY}', 0, 1)"
"""Lua that answers as TIME does: seconds and microseconds."""
_ATTENDED = """
for _, key in ipairs(redis.call('KEYS', '*:meta')) do
  local was = redis.pcall('HMGET', key, 'logical', 'real')
  if was[1] and was[2] and ARGV[1] - was[2] > 0 then
    redis.call('HSET', key, 'logical', was[1] + ARGV[1] - was[2], 'real', ARGV[1])
  end
end
"""


class Clock:
    """Calling it returns seconds since the epoch, as any `stoker.clock.Clock` does.

    Each move first adds the real time that has passed, so that `datetime.now() + timedelta(...)` in the code under test is right.
    """

    def __init__(self, redis: BlockingClient) -> None:
        self._redis = redis
        self.reset()

    def __call__(self) -> float:
        return self._now / 1_000_000

    def __repr__(self) -> str:
        return f"<Clock {self.now():%Y-%m-%d %H:%M:%S.%f}>"

    def now(self) -> datetime:
        """Its time, in UTC."""
        return datetime.fromtimestamp(self(), UTC)

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass (seconds). Nothing runs by that: see `Kit.run_until_idle`."""
        ahead = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        self._set(self._now + self._passed() + round(ahead * 1_000_000))
        # As if workers had called all the while: to the queues, a gap without a call is not yet time that has passed.
        self._redis.ask(("EVAL", _ATTENDED, 0, self._now // 1000))

    def move_to(self, moment: datetime) -> None:
        """Set it, as the clock of a server is set: moments go by it, and leases only by the time that `advance` lets pass."""
        self._passed()
        self._set(round(moment.timestamp() * 1_000_000))

    def reset(self) -> None:
        """Set it to real time."""
        self._read = time.monotonic()
        self._set(time.time_ns() // 1000)

    def _passed(self) -> int:
        before, self._read = self._read, time.monotonic()
        return round((self._read - before) * 1_000_000)

    def _set(self, microseconds: int) -> None:
        self._now = microseconds
        self._redis.ask(("MULTI",), ("DEL", KEY), ("RPUSH", KEY, *divmod(microseconds, 1_000_000)), ("EXEC",))
