"""Values to JSON and back to their declared types: those of msgspec, and pydantic's where an application uses it.

pydantic is never imported first from here: a type hint that names one of its types has imported it already.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from math import isfinite
from numbers import Integral, Rational
from typing import TYPE_CHECKING, Any, Never, NoReturn, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from stoker.errors import Invalid
from stoker.rules.plain import plain_number

if TYPE_CHECKING:
    from pydantic import TypeAdapter

OLDEST_PYDANTIC = (2, 11)
"""The first version that accepts a field by its name besides its alias."""
NAMED_ERRORS = 5
"""Validation errors of pydantic that a message lists."""
Read = Callable[[bytes], Any]
_BINARY = (bytes, bytearray, memoryview)
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


def is_binary(value: object) -> bool:
    """Whether it is binary data, which JSON carries as base64 only."""
    return isinstance(value, _BINARY)


def has_binary(hint: Any) -> bool:
    """Whether it is a type of binary data, or a union with one."""
    return hint in _BINARY or any(map(has_binary, _parts(hint)))


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


def check_readable(hint: Any, *, abstract: bool = False) -> None:
    """Raises TypeError for a type that JSON cannot be read as, such as `Path`, `Iterable[int]` or a class of the application.

    `abstract` types say little, and are let through where that is wanted: an `Iterator[int]` is what a caller makes of a list.
    """
    if hint in (NoReturn, Never):
        return
    with_arguments = set(_origins(hint, set()))
    for kind in _foreign(msgspec.inspect.type_info(hint), set()):
        if abstract and inspect.isabstract(kind):
            continue
        if not is_pydantics(kind) and (kind in with_arguments or not _takes_json(kind)):
            raise TypeError(f"JSON cannot be read as `{getattr(kind, '__name__', kind)}`")


def _foreign(info: Any, seen: set[int]) -> Iterator[Any]:
    """The types in it that msgspec does not know."""
    if isinstance(info, msgspec.inspect.CustomType):
        yield info.cls
    elif isinstance(info, dict | list | tuple):
        for part in info.values() if isinstance(info, dict) else info:
            yield from _foreign(part, seen)
    elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field) and id(info) not in seen:
        seen.add(id(info))
        for name in info.__struct_fields__:
            yield from _foreign(getattr(info, name), seen)


def _origins(hint: Any, seen: set[int]) -> Iterator[Any]:
    """The generic types in it that are given arguments."""
    if id(hint) not in seen:
        seen.add(id(hint))
        if get_args(hint):
            yield get_origin(hint)
        for part in _parts(hint):
            yield from _origins(part, seen)


def _takes_json(kind: Any) -> bool:
    """Whether what JSON is read as, without a type, is of this one: `object`, `Iterable`."""
    try:
        return any(issubclass(each, kind) for each in (dict, list, str, int, float))
    except TypeError:  # a generic alias, a protocol with attributes
        return False


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


def pydantic_schema(hint: Any, references: str) -> dict[str, Any]:
    """The JSON Schema of a type of pydantic's; `references` has `{model}` in it. Raises what pydantic does."""
    return _adapter(hint).json_schema(ref_template=references)


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


def _written(value: object) -> Any:
    """msgspec's `enc_hook`: a value of pydantic's as JSON that can be read back, and one of a subclass as its base."""
    if (plain := _as_base(value)) is not None:
        return plain
    adapter = _adapter_of(value)
    raw = adapter.dump_json(value, round_trip=True)
    if _MASKED in raw and adapter.validate_json(raw, by_alias=True, by_name=True) != value:
        raise TypeError(
            f"a {type(value).__name__} holds a secret, which pydantic writes as asterisks: pass where it is kept instead"
        )
    return msgspec.Raw(raw)


def _plain(value: object) -> Any:
    if (plain := _as_base(value)) is not None:
        return plain
    return _adapter_of(value).dump_python(value, mode="json")


_BASES: dict[tuple[str, str], Callable[[Any, Any], object]] = {
    ("builtins", "str"): lambda _, value: str.__str__(value),
    ("builtins", "int"): lambda base, value: base(value),
    ("builtins", "float"): lambda base, value: base(value),
    ("builtins", "bytes"): lambda base, value: base(value),
    ("decimal", "Decimal"): lambda base, value: base(value),
    ("datetime", "datetime"): lambda base, value: base.fromisoformat(value.isoformat()),
    ("datetime", "date"): lambda base, value: base.fromisoformat(value.isoformat()),
    ("datetime", "time"): lambda base, value: base.fromisoformat(value.isoformat()),
    ("datetime", "timedelta"): lambda base, value: base(value.days, value.seconds, value.microseconds),
}
"""How a value of a subclass becomes one of its base, which msgspec insists on. By name: freezegun replaces the classes."""


def _as_base(value: object) -> object | None:
    """The value as its base class among `_BASES`, or a number such as numpy.int64 as Python's; None for others."""
    for kind in type(value).__mro__[1:]:
        if convert := _BASES.get((kind.__module__, kind.__qualname__)):
            return convert(kind, value)
    return None if isinstance(value, Rational) and not isinstance(value, Integral) else plain_number(value)


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
