"""Refusals of a pod template's fields: each names the field and the reason."""

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from stoker.errors import Invalid
from stoker.rules.printable import printable

MAX_SHOWN = 300
"""Characters of a path that are shown."""


def refuse(at: str, reason: str) -> NoReturn:
    """Raises Invalid."""
    raise Invalid(f"{printable(at)[:MAX_SHOWN]} is refused: {reason}")


def mapping(at: str, value: Any) -> Mapping[str, Any]:
    """The value. Raises Invalid if it is no object."""
    if not isinstance(value, Mapping):
        refuse(at, "it must be an object")
    return value


def objects(at: str, value: Any) -> list[Mapping[str, Any]]:
    """The value. Raises Invalid if it is no list of objects."""
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        refuse(at, "it must be a list of objects")
    return value


def check_names(at: str, value: Mapping[str, Any], allowed: Collection[str], refused: Mapping[str, str]) -> None:
    """Raises Invalid for a field that is not allowed."""
    for name in value:
        if name not in allowed:
            refuse(f"{at}.{name}", refused.get(name, "Stoker knows no such field of a pod"))
