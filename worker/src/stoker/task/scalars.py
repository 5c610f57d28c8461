"""Which Python types a parameter surely takes: most calls are scalars, and need no reading back of their JSON to be checked."""

import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

_SCALARS: frozenset[type] = frozenset({str, int, float, bool, NoneType})
_OPEN: frozenset[type] = _SCALARS | {dict, list, tuple, set, frozenset}
_NOTHING: frozenset[type] = frozenset()


def sure_types(hint: Any) -> frozenset[type]:
    """The types whose values this hint takes from JSON, whatever the value: those of scalars, and containers where it takes any.

    What is not among them may fit too: a subclass, an int for a float, a constrained number.
    """
    hint = getattr(hint, "__supertype__", hint)
    if hint is Any or hint is object or hint is inspect.Parameter.empty:
        return _OPEN
    if get_origin(hint) in (Union, UnionType):
        parts = [sure_types(part) for part in get_args(hint)]
        if all(parts):
            return _NOTHING.union(*parts)
        return frozenset({NoneType}) if NoneType in get_args(hint) else _NOTHING
    hint = NoneType if hint is None else hint
    return frozenset({hint}) if isinstance(hint, type) and hint in _SCALARS else _NOTHING


def surely_fit(arguments: Mapping[str, object], sure: Mapping[str, frozenset[type]]) -> bool:
    """Whether each argument is exactly of one of the types that its parameter surely takes."""
    for name, value in arguments.items():  # noqa: SIM110 (a generator costs more than the whole loop)
        if type(value) not in sure[name]:
            return False
    return True
