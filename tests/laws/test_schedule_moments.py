"""When a schedule's moments are: five fields in a time zone, held against a clock on the wall that is read every minute."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker import cron, every
from stoker.errors import Invalid
from stoker.rules.schedule import Definition, Planned, first, following, local_time, next_moments, passing, planned, run_id

MINUTE = timedelta(minutes=1)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # its clock leaps over midnight
    "America/St_Johns",  # half an hour from the others
    "Australia/Lord_Howe",  # changes by half an hour
    "Africa/Casablanca",  # changes around Ramadan
    "Asia/Kolkata",  # never
)


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def local(moment: int, zone: str) -> str:
    return datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).isoformat(timespec="minutes")


def moments(expression: str, zone: str, after: int) -> Iterator[int]:
    while True:
        after = following(expression, zone, after)
        yield after


@pytest.mark.parametrize(
    ("expression", "zone", "after", "then"),
    [
        pytest.param("0 3 * * *", "Europe/Berlin", "2026-01-10T03:00", ["2026-01-11T03:00+01:00"], id="every night at three"),
        pytest.param("30 9 * * 1-5", "UTC", "2026-01-09T09:30", ["2026-01-12T09:30+00:00"], id="not at the weekend"),
        pytest.param("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00+00:00"], id="on leap days"),
        pytest.param("0 0 13 * FRI", "UTC", "2026-02-01T00:00", ["2026-02-06T00:00+00:00"], id="the 13th, and Fridays"),
        pytest.param("@monthly", "Asia/Kolkata", "2026-01-31T12:00", ["2026-02-01T00:00+05:30"], id="by name"),
        pytest.param("@every 90s", "UTC", "2026-01-01T00:00:10", ["2026-01-01T00:01+00:00"], id="a period, counted from 1970"),
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00",
            ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
            id="a time that spring leaps over: right after the leap",
        ),
        pytest.param(
            "0,30 2,3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00",
            ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00", "2026-03-30T02:00+02:00"],
            id="several that spring leaps over: once",
        ),
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00",
            ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
            id="a time that comes twice in autumn: the first time",
        ),
        pytest.param(
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T01:59",
            ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00"],
            id="a rhythm goes on through the hour that comes twice",
        ),
        pytest.param(
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T01:30",
            ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"],
            id="a rhythm knows no hour that is not",
        ),
        pytest.param("0 12 * * *", "Pacific/Apia", "2011-12-29T13:00", ["2011-12-31T00:00+14:00"], id="a day that never was"),
    ],
)
def test_the_next_moments(expression: str, zone: str, after: str, then: list[str]) -> None:
    found = islice(moments(expression, zone, ms(after, zone)), len(then))
    assert [local(moment, zone) for moment in found] == then


def numbers(lowest: int, highest: int) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(lowest, highest), min_size=1, max_size=4)


@st.composite
def fields(draw: st.DrawFn) -> tuple[str, set[int], set[int], set[int] | None]:
    """Minutes, hours and weekdays: as a crontab writes them, and as what they mean."""

    def part(highest: int) -> tuple[str, set[int]]:
        everything = set(range(highest + 1))
        kind = draw(st.sampled_from(("some", "some", "all", "step", "range")))
        if kind == "some":
            some = draw(numbers(0, highest))
            return ",".join(map(str, sorted(some))), some
        if kind == "all":
            return "*", everything
        step = draw(st.integers(2, 20))
        if kind == "step":
            return f"*/{step}", set(range(0, highest + 1, step))
        low, high = sorted(draw(st.tuples(st.integers(0, highest), st.integers(0, highest))))
        return f"{low}-{high}", set(range(low, high + 1))

    (minute, minutes), (hour, hours) = part(59), part(23)
    weekday = draw(st.none() | numbers(0, 6))
    text = "*" if weekday is None else ",".join(map(str, sorted(weekday)))
    return f"{minute} {hour} * * {text}", minutes, hours, weekday


def read_every_minute(
    expression: str, minutes: set[int], hours: set[int], weekdays: set[int] | None, zone: str, after: datetime, days: int
) -> list[int]:
    """The moments of some days by the rules as people say them, found by brute force."""

    def fits(shown: datetime) -> bool:
        return shown.minute in minutes and shown.hour in hours and (weekdays is None or shown.isoweekday() % 7 in weekdays)

    fixed = not any(part.startswith("*") for part in expression.split()[:2])
    found, clock = [], ZoneInfo(zone)
    moment = after.replace(second=0, microsecond=0) + MINUTE
    shown_before = (moment - MINUTE).astimezone(clock).replace(tzinfo=None)
    while moment <= after + timedelta(days=days):
        seen = moment.astimezone(clock)
        shown, again = seen.replace(tzinfo=None), seen.fold == 1
        if fixed:
            leapt_over = [shown_before + n * MINUTE for n in range(1, int((shown - shown_before) / MINUTE))]
            hit = (fits(shown) and not again) or any(map(fits, leapt_over))
        else:
            hit = fits(shown)
        if hit:
            found.append(round(moment.timestamp() * 1000))
        moment, shown_before = moment + MINUTE, shown
    return found


def changes(zone: str, year: int) -> list[datetime]:
    """The days of a year on which a zone's clock is changed; its first of July where there are none."""
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(365)]
    clock = ZoneInfo(zone)
    found = [day for day in days if day.astimezone(clock).utcoffset() != (day + timedelta(days=1)).astimezone(clock).utcoffset()]
    return found or [datetime(year, 7, 1, tzinfo=UTC)]


@settings(max_examples=150, deadline=None)
@given(crontab=fields(), zone=st.sampled_from(ZONES), year=st.integers(2024, 2030), data=st.data())
def test_a_clock_on_the_wall_agrees(
    crontab: tuple[str, set[int], set[int], set[int] | None], zone: str, year: int, data: st.DataObject
) -> None:
    expression, *meant = crontab
    day = data.draw(st.sampled_from(changes(zone, year)))
    start = day + timedelta(seconds=data.draw(st.integers(-12 * 3600, 30 * 3600)))
    expected = read_every_minute(expression, *meant, zone, start, days=3)[:100]
    found = islice(moments(expression, zone, round(start.timestamp() * 1000)), len(expected))
    assert [local(moment, zone) for moment in found] == [local(moment, zone) for moment in expected]


@given(
    expression=st.sampled_from(("0 3 * * *", "*/7 * * * *", "15 2 * * 1", "0 0 1 * *", "@every 45s")),
    zone=st.sampled_from(ZONES),
    after=st.integers(ms("2024-01-01T00:00"), ms("2031-01-01T00:00")),
)
def test_there_is_always_a_next_moment_and_it_is_later(expression: str, zone: str, after: int) -> None:
    assert following(expression, zone, after) > after


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("0 3 * *", "UTC", "five fields"),
        ("0 0 3 * * *", "UTC", "five fields"),
        ("61 * * * *", "UTC", "Bad minute"),
        ("0 0 30 2 *", "UTC", "day-of-month"),
        ("0 0 * * MON#6", "UTC", "day-of-week"),
        ("* * */20 * 1L", "UTC", "fifty years"),
        ("0 3 * * *", "Europe/Atlantis", "unknown time zone"),
        ("0 3 * * *", "../../etc/passwd", "unknown time zone"),
        ("@every 500ms", "UTC", "at least 1"),
        ("@every soon", "UTC", "30s"),
        ("@fortnightly", "UTC", "five fields"),
        ("0 " * 60, "UTC", "100 characters"),
    ],
)
def test_what_is_no_schedule_is_refused_in_words(expression: str, zone: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        cron(expression, time_zone=zone)


def test_words_that_are_not_known_are_refused() -> None:
    with pytest.raises(Invalid, match="Skip, Allow"):
        cron("@daily", overlap="Forbid")
    with pytest.raises(Invalid, match="jitter"):
        cron("@daily", jitter=-1)
    with pytest.raises(Invalid, match="name"):
        Definition("every night", cron("@daily"), "report")


def test_the_next_moments_across_a_change_of_the_clock() -> None:
    """Of 2:30 on the night that skips it, and of the hour that comes twice."""

    def shown(expression: str, after: datetime, count: int) -> list[str]:
        timing = cron(expression, time_zone="Europe/Berlin")
        moments = next_moments(timing, int(after.timestamp() * 1000), count)
        return [local_time(moment, "Europe/Berlin").isoformat(timespec="minutes") for moment in moments]

    assert shown("30 2 * * *", datetime(2030, 3, 30, tzinfo=UTC), 3) == [
        *("2030-03-30T02:30+01:00", "2030-03-31T03:00+02:00", "2030-04-01T02:30+02:00")
    ]
    assert shown("*/30 * * * *", datetime(2030, 10, 27, 0, 0, tzinfo=UTC), 3) == [
        *("2030-10-27T02:30+02:00", "2030-10-27T02:00+01:00", "2030-10-27T02:30+01:00")
    ]
    assert shown("0 0 29 2 *", datetime(2030, 1, 1, tzinfo=UTC), 20)[:2] == ["2032-02-29T00:00+01:00", "2036-02-29T00:00+01:00"]


HOURLY = Definition("hourly", cron("@hourly"), "report")
NOON = ms("2026-01-01T12:00")
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("catch_up", "late", "run", "missed"),
    [
        pytest.param("Last", 0, NOON, 0, id="in time"),
        pytest.param("None", 60_000, NOON, 0, id="a pod had to start for it"),
        pytest.param("None", 60_001, None, 1, id="too late, and not to be caught up with"),
        pytest.param("Last", 30 * 60_000, NOON, 0, id="late, and caught up with"),
        pytest.param("Last", 3 * HOUR + 5000, NOON + 3 * HOUR, 3, id="three were missed, the fourth is now"),
        pytest.param("None", 3 * HOUR + 5000, NOON + 3 * HOUR, 3, id="... also where none is caught up with"),
        pytest.param("None", 3 * HOUR + 90_000, None, 4, id="four were missed"),
    ],
)
def test_what_was_missed(catch_up: str, late: int, run: int | None, missed: int) -> None:
    definition = Definition("hourly", cron("@hourly", catch_up=catch_up), "report")
    passed = passing(definition, NOON, NOON + late)
    assert (passed.run, passed.missed) == (run, missed)
    assert NOON + late < passed.next.moment <= NOON + late + HOUR


def test_years_of_missed_minutes_cost_no_more_than_a_thousand() -> None:
    minutely = Definition("minutely", cron("* * * * *", time_zone="Europe/Berlin"), "report")
    now = ms("2026-01-01T12:00:30")
    passed = passing(minutely, ms("2020-01-01T00:00"), now)
    assert (passed.run, passed.missed) == (ms("2026-01-01T12:00"), 1000)
    assert passed.next.moment == ms("2026-01-01T12:01")


@given(jitter=st.floats(0, 10 * 3600), moment=st.integers(0, 10_000).map(lambda n: NOON + n * HOUR))
def test_jitter_delays_and_never_overtakes(jitter: float, moment: int) -> None:
    definition = Definition("hourly", cron("@hourly", jitter=jitter), "report")
    due = planned(definition, moment).due
    assert moment <= due < moment + max(1, min(jitter * 1000, HOUR))
    assert planned(definition, moment).due == due, "the same whoever computes it"
    assert due < planned(definition, moment + HOUR).due


def test_jitter_spreads_schedules_of_one_time() -> None:
    names = [f"report-{number}" for number in range(200)]
    dues = sorted(planned(Definition(name, cron("@hourly", jitter=100), "report"), NOON).due - NOON for name in names)
    assert dues[0] < 10_000
    assert dues[-1] > 90_000
    assert abs(dues[100] - 50_000) < 15_000


def test_a_new_schedule_waits_for_its_next_moment() -> None:
    assert first(HOURLY, NOON) == Planned(NOON + HOUR, NOON + HOUR)


def test_the_id_of_a_run_says_which() -> None:
    assert run_id("nightly", NOON) == "cron-nightly-2026-01-01T12:00:00Z"


def test_every_is_a_period() -> None:
    assert every(90).cron == "@every 90s"
    assert date.fromtimestamp(following(every(86400).cron, "UTC", NOON) / 1000) == date(2026, 1, 2)
    with pytest.raises(Invalid, match="whole seconds"):
        every(0)
