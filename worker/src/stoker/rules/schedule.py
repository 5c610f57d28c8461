"""Schedules: cron expressions, time zones, jitter, and missed runs.

Pure: a definition and a moment in, a moment out. Every worker and the operator compute the same, so there is no leader.
A moment is a time that the expression matches; its run is due at the moment plus jitter. Both in epoch ms.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError
from msgspec.structs import force_setattr

from stoker.errors import LONGEST, Invalid
from stoker.rules.concurrency import Limit
from stoker.rules.message import check_headers, check_priority, check_retries, check_task, check_timeouts
from stoker.rules.plain import plain_number, plain_text
from stoker.rules.request import check_expires
from stoker.rules.retry import Backoff
from stoker.rules.units import parse_duration

LATE = 60_000
"""Milliseconds after it is due from which a run counts as missed. A pod may have to start first."""
COUNTED = 1000
"""Missed moments that are counted one by one; after these, the last one is searched for."""
MAX_EXPRESSION = 100

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
EVERY = "@every "
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)


class Overlap(StrEnum):
    """Whether a run starts while the previous one has not ended."""

    SKIP = "Skip"
    ALLOW = "Allow"


class CatchUp(StrEnum):
    """After an outage: whether the last of the missed moments runs, or none."""

    LAST = "Last"
    NONE = "None"


class Timing(msgspec.Struct, frozen=True):
    """When a schedule runs. `jitter` in seconds. Raises Invalid for bad values and for an expression that never matches."""

    cron: str
    time_zone: str = "UTC"
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    jitter: float = 0.0

    def __post_init__(self) -> None:
        jitter = plain_number(self.jitter)
        if jitter is None or not 0 <= jitter <= LONGEST:
            raise Invalid(f"bad jitter {self.jitter!r} of a schedule: use a number of seconds, 0 or more")
        force_setattr(self, "jitter", jitter)
        for field in ("cron", "time_zone"):
            if (text := plain_text(getattr(self, field))) is None:
                raise Invalid(f"bad {field} {getattr(self, field)!r} of a schedule: use a text")
            force_setattr(self, field, text)
        following(self.cron, self.time_zone, 0)


class Definition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One schedule of a queue, as it is stored. `payload` is a JSON object of named arguments.

    The options apply to each run, as those of a call; no run begins `expires` seconds after it was due and enqueued, or later.
    Raises Invalid for a bad name, and for values out of range.
    """

    name: str
    timing: Timing
    task: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    priority: int = 0
    suspend: bool = False
    max_retries: int | None = None
    timeout: float | None = None
    limit: Limit | None = None
    soft_timeout: float | None = None
    retry: Backoff | None = None
    expires: float | None = None
    headers: dict[str, str] = {}

    def __post_init__(self) -> None:
        plain: dict[str, object] = {"name": check_name(self.name), "priority": check_priority(self.priority)}
        if not self.task:
            raise Invalid(f"schedule {self.name}: the task's name is missing")
        plain["task"] = check_task(self.task)
        if self.max_retries is not None:
            plain["max_retries"] = check_retries(self.max_retries)
        plain["soft_timeout"], plain["timeout"] = check_timeouts(self.soft_timeout, self.timeout)
        if self.expires is not None:
            plain["expires"] = check_expires(self.expires)
        plain["headers"] = check_headers(self.headers)
        for field, value in plain.items():
            force_setattr(self, field, value)


class Planned(NamedTuple):
    """A moment, and when its run is due; both in epoch ms."""

    moment: int
    due: int


class Passing(NamedTuple):
    """What to do with a schedule that is due: the moment to run now (None: missed), the number of missed moments, the next run."""

    run: int | None
    missed: int
    next: Planned


def cron(
    expression: str,
    *,
    time_zone: str = "UTC",
    overlap: str = Overlap.SKIP,
    catch_up: str = CatchUp.LAST,
    jitter: float = 0.0,
) -> Timing:
    """A crontab's five fields (minute, hour, day of month, month, day of week), `@hourly` and its like, or `@every 90s`.

    `time_zone` is an IANA name. `overlap` "Skip": no run starts while the previous one has not ended; "Allow": runs may overlap.
    `catch_up` "Last": after an outage, the last missed moment runs once; "None": it does not. `jitter` delays each run by up to
    this many seconds, by the same amount wherever it is computed. Raises Invalid for an expression that is malformed or never
    matches, and for an unknown time zone.
    """
    try:
        expression = " ".join(expression.split()) if isinstance(expression, str) else expression
        return Timing(expression, time_zone, Overlap(overlap), CatchUp(catch_up), jitter)
    except ValueError as error:
        raise Invalid(f"bad schedule: {error}; overlap is one of Skip, Allow and catch_up one of Last, None") from error


def every(seconds: int, *, overlap: str = Overlap.SKIP, catch_up: str = CatchUp.LAST, jitter: float = 0.0) -> Timing:
    """Every `seconds` whole seconds since 1970 in UTC: every(3600) runs on the hour, whenever it was declared."""
    return cron(f"{EVERY}{seconds}s", overlap=overlap, catch_up=catch_up, jitter=jitter)


def check_name(name: str) -> str:
    """Raises Invalid unless it is 1 to 63 letters, digits, '-', '_' and '.', the first a letter or digit."""
    text = plain_text(name)
    if text is None or not _NAME.fullmatch(text):
        raise Invalid(f"bad name {name!r} of a schedule: use 1 to 63 letters, digits, '-', '_' and '.', a letter or digit first")
    return text


def following(expression: str, time_zone: str, moment: int) -> int:
    """The first moment after this one. Raises Invalid for a bad expression, one that never matches, or an unknown zone."""
    if len(expression) > MAX_EXPRESSION:
        raise Invalid(f"bad cron expression {expression[:30]!r}...: at most {MAX_EXPRESSION} characters are allowed")
    if expression.startswith(EVERY):
        period = _period(expression)
        return moment - moment % period + period
    fields = ALIASES.get(expression, expression)
    if len(fields.split()) != 5:
        raise Invalid(f"bad cron expression {expression!r}: write five fields (minute hour day month weekday), or @every 90s")
    after = datetime.fromtimestamp(moment // 1000, UTC)
    found = _fixed if _has_fixed_times(fields) else _wall
    try:
        return round(found(fields, zone_of(time_zone), after).timestamp() * 1000)
    except CronSimError as error:
        raise Invalid(f"bad cron expression {expression!r}: {error}") from error
    except (StopIteration, OverflowError):
        raise Invalid(f"bad cron expression {expression!r}: it matches no time within fifty years") from None


def planned(definition: Definition, moment: int) -> Planned:
    """When the run of this moment is due: at most `jitter` after it, and before the next moment."""
    timing = definition.timing
    if not timing.jitter:
        return Planned(moment, moment)
    gap = min(timing.jitter * 1000, following(timing.cron, timing.time_zone, moment) - moment)
    drawn = hashlib.sha256(f"{definition.name} {moment}".encode()).digest()[:6]
    return Planned(moment, moment + int(gap * (int.from_bytes(drawn) / 2**48)))


def first(definition: Definition, now: int) -> Planned:
    """The first run of a schedule that is registered at `now`."""
    return planned(definition, following(definition.timing.cron, definition.timing.time_zone, now))


def passing(definition: Definition, moment: int, now: int) -> Passing:
    """What to do at `now` with a schedule whose run of this moment is due."""
    timing, missed = definition.timing, 0
    after = planned(definition, following(timing.cron, timing.time_zone, moment))
    while after.due <= now:
        moment, missed = after.moment, missed + 1
        if missed == COUNTED:
            moment = max(moment, _last(definition, now))
        after = planned(definition, following(timing.cron, timing.time_zone, moment))
    if timing.catch_up is CatchUp.NONE and now - planned(definition, moment).due > LATE:
        return Passing(None, missed + 1, after)
    return Passing(moment, missed, after)


def next_moments(timing: Timing, after: int, count: int) -> list[int]:
    """The next moments after this one, as many; fewer where the expression matches no more within fifty years."""
    found: list[int] = []
    with suppress(Invalid):
        while len(found) < count:
            after = following(timing.cron, timing.time_zone, after)
            found.append(after)
    return found


def local_time(moment: int, time_zone: str) -> datetime:
    """A moment (epoch ms) in this time zone. Raises Invalid for an unknown one."""
    return datetime.fromtimestamp(moment / 1000, zone_of(time_zone))


def run_id(name: str, moment: int) -> str:
    """The task id of the run of this moment: the same wherever it is computed."""
    text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds")
    return f"cron-{name}-{text.removesuffix('+00:00')}Z"


def _last(definition: Definition, now: int) -> int:
    """The last moment whose run is due by now; searched backwards in growing steps; 0 if there is none since 1970."""
    step = 3_600_000
    while step < now:
        found, moment = 0, now - step
        for moment in _moments(definition.timing, now - step):
            if planned(definition, moment).due > now:
                break
            found = moment
        if found:
            return found
        step *= 4
    return 0


def _moments(timing: Timing, after: int) -> Iterator[int]:
    while True:
        after = following(timing.cron, timing.time_zone, after)
        yield after


def _period(expression: str) -> int:
    try:
        period = round(parse_duration(expression.removeprefix(EVERY)) * 1000)
    except ValueError as error:
        raise Invalid(f"bad cron expression {expression!r}: {error}") from error
    if period < 1000 or period % 1000:
        raise Invalid(f"bad cron expression {expression!r}: use whole seconds, at least 1")
    return period


@cache
def zone_of(name: str) -> tzinfo:
    """The time zone. Raises Invalid for one that is unknown."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(f"unknown time zone {name!r}: use a name of the IANA database, such as Europe/Berlin") from error


def _has_fixed_times(fields: str) -> bool:
    """Whether neither minutes nor hours begin with a star: fixed times of the day, not an interval. Source: Vixie cron."""
    minute, hour, *_ = fields.split()
    return not minute.startswith("*") and not hour.startswith("*")


def _fixed(fields: str, zone: tzinfo, after: datetime) -> datetime:
    """Fixed times run once a day across DST changes: skipped ones right after the change, repeated ones the first time."""
    for local in CronSim(fields, after.astimezone(zone).replace(tzinfo=None)):
        moment = local.replace(tzinfo=zone).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) != local:
            moment = _change(zone, local.replace(tzinfo=zone, fold=1).astimezone(UTC), moment)
        if moment > after:
            return moment
    raise StopIteration


def _wall(fields: str, zone: tzinfo, after: datetime) -> datetime:
    """Intervals follow the local clock: times that DST skips do not run, times that it repeats run twice."""
    start = after + _SECOND
    while True:
        offset = _offset(zone, start)
        local = (start + offset - _SECOND).replace(tzinfo=None)
        found = (next(CronSim(fields, local)) - offset).replace(tzinfo=UTC)
        seen = start
        while seen < found and _offset(zone, look := min(seen + _DAY, found)) == offset:
            seen = look
        if seen == found:
            return found
        start = _change(zone, seen, look)  # DST begins or ends before `found`


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The first second with another UTC offset than `before`. Bisection."""
    offset = _offset(zone, before)
    while after - before > _SECOND:
        middle = (before + (after - before) / 2).replace(microsecond=0)
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
