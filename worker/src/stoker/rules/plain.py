"""Numbers and texts as Python's own types. Redis and JSON carry no others: no IntEnum, no numpy.int64, no bool as a number."""

from numbers import Integral, Real
from typing import Any


def plain_int(value: Any) -> int | None:
    """A whole number as an int, also of an IntEnum or of numpy; None for a bool and for everything else."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None


def plain_number(value: Any) -> int | float | None:
    """A number as an int or float, also a subclass's or numpy's; None for a bool and for everything else."""
    if type(value) is float or type(value) is int:
        return value
    if isinstance(value, Integral):
        return plain_int(value)
    return float(value) if isinstance(value, Real) else None


def plain_text(value: Any) -> str | None:
    """A text as a str, also a subclass's or a StrEnum's, if UTF-8 can write it; None for everything else."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return value if type(value) is str else str.__str__(value)
