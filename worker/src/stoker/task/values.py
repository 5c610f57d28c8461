"""Values to JSON and back to their declared types: those of msgspec, and pydantic's where an application uses it.

pydantic is never imported first from here: a type hint that names one of its types has imported it already.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Never, NoReturn, get_args, get_type_hints, is_typeddict

import msgspec

from stoker.errors import Invalid

if TYPE_CHECKING:
    from pydantic import TypeAdapter

OLDEST_PYDANTIC = (2, 11)
"""The first version that accepts a field by its name besides its alias."""
NAMED_ERRORS = 5
"""Validation errors of pydantic that a message lists."""
Read = Callable[[bytes], Any]
_NEVER_ENDLESS = (str, int, type(None))
_MASKED = b'"**********"'


class Unfit(Exception):
    """JSON that is not of the declared type. The text says what is wrong, and where."""


def write(value: object) -> bytes:
    """The value as JSON. Raises Invalid for values that JSON cannot carry."""
    try:
        return encode(value)
    except Exception as error:  # also from serializers of the application
        raise Invalid(str(error) or type(error).__name__) from error


def is_endless(value: object) -> bool:
    """Whether it contains a NaN or an infinity, which JSON writes as null."""
    if isinstance(value, _NEVER_ENDLESS):
        return False
    return any(isinstance(each, float) and not isfinite(each) for each in _leaves(msgspec.to_builtins(value, enc_hook=_plain)))


def reader(hint: Any, at: str = "$") -> Read:
    """A function that reads JSON as this type, and raises Unfit; `at` is the JSON path for its messages.

    Raises TypeError for a type that JSON cannot carry.
    """
    if hint in (NoReturn, Never):
        hint = Any  # there is never a value
    if is_pydantics(hint) and (adapter := _adapter_or_none(hint)):
        return lambda raw: _validated(adapter, raw, at)
    decode = msgspec.json.Decoder(hint, strict=False, dec_hook=read_foreign).decode

    def read(raw: bytes) -> Any:
        try:
            return decode(raw)
        except msgspec.MsgspecError as error:
            raise Unfit(str(error)) from error

    return read


def read_foreign(kind: Any, value: Any) -> Any:
    """msgspec's `dec_hook`: a type that msgspec does not know, such as a model as a field of a struct."""
    if is_pydantics(kind):
        try:
            return _validated(_adapter_of_class(kind), msgspec.json.encode(value), "")
        except Unfit as error:
            raise ValueError(str(error)) from error
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise ValueError(f"JSON carries no `{getattr(kind, '__name__', kind)}`")


def is_pydantics(hint: Any) -> bool:
    """Whether pydantic must read it: it contains a type or constraint of pydantic's, not counting fields of msgspec structs."""
    return "pydantic" in sys.modules and _has_pydantic(hint, set())


def _has_pydantic(hint: Any, seen: set[int]) -> bool:
    if id(hint) in seen:
        return False
    seen.add(id(hint))
    if hasattr(hint, "__get_pydantic_core_schema__") or hasattr(hint, "__pydantic_validator__"):
        return True
    if type(hint).__module__.partition(".")[0] in {"pydantic", "annotated_types"}:  # a constraint within Annotated
        return True
    return any(_has_pydantic(part, seen) for part in _parts(hint))


def _parts(hint: Any) -> Iterator[Any]:
    """The hints nested in it."""
    yield from get_args(hint)
    yield from (part for name in ("__origin__", "__supertype__", "__value__") if (part := getattr(hint, name, None)) is not None)
    if isinstance(hint, type) and (is_dataclass(hint) or is_typeddict(hint) or hasattr(hint, "_fields")):
        yield from get_type_hints(hint, include_extras=True).values()


def _adapter(hint: Any) -> "TypeAdapter[Any]":
    import pydantic

    if tuple(int(part) for part in pydantic.VERSION.split(".")[:2]) < OLDEST_PYDANTIC:
        oldest = ".".join(map(str, OLDEST_PYDANTIC))
        raise Invalid(f"pydantic {pydantic.VERSION} is too old for arguments of its types: install {oldest} or newer")
    return pydantic.TypeAdapter(hint)


@cache
def _adapter_of_class(kind: type) -> "TypeAdapter[Any]":
    return _adapter(kind)


def _adapter_or_none(hint: Any) -> "TypeAdapter[Any] | None":
    """None where pydantic cannot read all of it, as with msgspec structs."""
    from pydantic import PydanticUserError

    try:
        return _adapter(hint)
    except PydanticUserError:
        return None


def _validated(adapter: "TypeAdapter[Any]", raw: bytes, at: str) -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_json(raw, by_alias=True, by_name=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    words = [f"{each['msg']} - at `{at}{_path(each['loc'])}`" for each in found[:NAMED_ERRORS]]
    more = [f"and {len(found) - NAMED_ERRORS} more"] if len(found) > NAMED_ERRORS else []
    raise Unfit("; ".join(words + more))


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _written(value: object) -> msgspec.Raw:
    """msgspec's `enc_hook`: a value of pydantic's as JSON that can be read back."""
    adapter = _adapter_of(value)
    raw = adapter.dump_json(value, round_trip=True)
    if _MASKED in raw and adapter.validate_json(raw, by_alias=True, by_name=True) != value:
        raise TypeError(
            f"a {type(value).__name__} holds a secret, which pydantic writes as asterisks: pass where it is kept instead"
        )
    return msgspec.Raw(raw)


def _plain(value: object) -> Any:
    return _adapter_of(value).dump_python(value, mode="json")


def _adapter_of(value: object) -> "TypeAdapter[Any]":
    kind: Any = type(value)
    if not is_pydantics(kind):
        is_key = isinstance(value, tuple | frozenset | msgspec.Struct) or is_dataclass(value)  # msgspec knows these as values
        raise TypeError(f"JSON carries no `{kind.__name__}`{' as a key' if is_key else ''}")
    return _adapter_of_class(kind)


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


encode = msgspec.json.Encoder(enc_hook=_written).encode
"""`write` without its mapping of errors."""
