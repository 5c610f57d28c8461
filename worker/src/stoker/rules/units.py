"""Durations and sizes in the notation of Kubernetes: "30s", "1h30m", "7d"; "512MiB", "512Mi", "1.5GB"."""

import re

from stoker.errors import LONGEST

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[dhms])")
_WHOLE = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[dhms]))+")


class Duration(float):
    """Seconds. A separate type, so that msgspec parses text such as "30s" for fields declared with it."""


def to_ms(seconds: float) -> int:
    """Whole milliseconds, the unit of every time that Redis is given."""
    return round(seconds * 1000) if seconds else 0


def parse_duration(text: str) -> Duration:
    """Seconds of "90s", "1m30s", "1.5h", "250ms" or "7d". Raises ValueError for anything else."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"bad duration {text[:30]!r}: write it like 30s, 10m, 1h30m or 7d")
    seconds = Duration(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    if seconds > LONGEST:
        raise ValueError(f"bad duration {text[:30]!r}: at most 36500d are allowed")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` parses to the same value: 90 -> "1m30s"."""
    left, text = round(seconds * 1000), ""
    if left <= 0:
        return "0s"
    for unit, size in _UNITS.items():
        count, left = divmod(left, round(size * 1000))
        text += f"{count}{unit}" if count else ""
    return text


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?")
_STEPS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Bytes of "512MiB", "512Mi", "500MB" or "1048576". Raises ValueError for other text."""
    match = _SIZE.fullmatch(text.strip())
    if not match or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is not a size: write it like 512MiB, 512Mi or 1.5GB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _STEPS[match[2]])
