"""Durations as text: what is written is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.rules.units import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("7d", 604800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("0s", 0),
        ("1m1ms", 60.001),
    ],
)
def test_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("30", id="no unit"),
        pytest.param("s", id="no number"),
        pytest.param("-5s", id="negative"),
        pytest.param("5 s", id="a blank"),
        pytest.param("1h30", id="half of it without a unit"),
        pytest.param("1y", id="an unknown unit"),
        pytest.param("1.s", id="a point with nothing behind"),
        pytest.param("30s\n", id="a line break"),
        pytest.param("٣s", id="digits of another script, which a cluster refuses"),
        pytest.param("9" * 400 + "s", id="more than a number can hold"),
        pytest.param("1000000d", id="thousands of years, more than Redis' scores can tell apart"),
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "1m30s"), (0, "0s"), (0.25, "250ms"), (86400 * 7, "7d"), (3600, "1h"), (-1, "0s"), (0.0001, "0s")]
)
def test_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**12))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.floats(0, 1e9))
def test_written_is_never_empty_and_off_by_less_than_a_millisecond(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.001)
